"""Case 16 for templates: what a form takes is what the rule says, and whatever it takes stays a value."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from prefect.exceptions import ParameterTypeError
from pydantic import TypeAdapter, ValidationError

from flows.template.command import filled_in
from flows.template.known_parameters import KNOWN, REQUIRED
from flows.template.model import Parameter, PlainStep
from flows.template.parameters import Place, as_text, form_parameter
from flows.template.reading import ReadTemplate, read_template
from flows.template.run import environment_of, runbook_of
from flows.template.words import IN_WORDS
from tests.support.hostile import PAYLOADS

SEED = Path(__file__).parents[3] / "seed_templates"
FORMS: dict[str, dict[str, Any]] = {
    "seed's deploy": {"git_ref": "main", "odoo_db": "good", "domain": "good.example", "email": "a@good.example"},
    "seed's upgrade": {"compose_file": "good.yml", "odoo_service": "good", "modules": ["good"], "odoo_db": "good"},
    "seed's backup": {"odoo_db": "good", "s3_bucket": "good/db"},
    "one without rules": {"text": "a", "items": ["a"], "anything": "a", "pattern": "a", "word": "a"},
}
FILES = {
    "seed's deploy": SEED / "odoo_fresh_deploy.json",
    "seed's upgrade": SEED / "odoo_module_upgrade.json",
    "seed's backup": SEED / "odoo_db_backup.json",
}
LOOSE: dict[str, Any] = {
    "kind": "loose",
    "params": {"text": {}, "items": {"type": "list"}, "anything": {}, "pattern": {"pattern": r"[\s\S]*"}, "word": {}},
    "steps": [
        {
            "name": "say",
            "timeout": 5,
            "env": {"BOTH": "<${params.text}|${params.anything}>", "ALONE": "${params.pattern}"},
            "command": 'printf \'%s\\0\' "$PARAM_TEXT" "$text" "$ITEMS" "$BOTH" "$ALONE" ${params.word}',
        }
    ],
}


def template(form: str, folder: Path) -> Path:
    if form in FILES:
        return FILES[form]
    path = folder / "loose.json"
    path.write_text(json.dumps(LOOSE))
    return path


def adapters(read: ReadTemplate) -> dict[str, TypeAdapter[Any]]:
    """What a run checks its parameters with: Prefect makes a model of these types, for each call another one."""
    return {one.name: TypeAdapter(one.annotation) for one in read.parameters}


def accepted(takes: dict[str, TypeAdapter[Any]], good: dict[str, Any], name: str, value: str) -> dict[str, Any] | None:
    try:
        taken = takes[name].validate_python([value] if isinstance(good[name], list) else value)
        json.dumps(taken, ensure_ascii=False).encode()
    except (ValidationError, UnicodeEncodeError):
        return None
    return {**good, name: taken}


def test_there_are_more_than_200_hostile_texts() -> None:
    assert len(set(PAYLOADS)) > 200


@pytest.mark.parametrize("form", FORMS)
def test_hostile_text_is_refused_or_literal(form: str, tmp_path: Path) -> None:
    """Texts with a rule take nothing that means something to a shell. The others are what the command gets."""
    read = read_template(template(form, tmp_path))
    takes = adapters(read)
    good = FORMS[form]
    assert runbook_of(read).validate_parameters(good)
    taken = 0
    for name in good:
        for value in PAYLOADS:
            values = accepted(takes, good, name, value)
            if values is None:
                continue
            if form in FILES:
                assert set(value) <= set("go/=@~d-_."), (name, value)
            if form not in FILES:
                taken += 1
                assert shown(values, read, tmp_path) == literal(values)
    assert form in FILES or taken > 100, "one that takes anything is there to take it"
    assert not list(tmp_path.rglob("canary*"))


def literal(values: dict[str, Any]) -> list[str]:
    text, items, anything = (as_text(values[name]) for name in ("text", "items", "anything"))
    return [text, text, items, f"<{text}|{anything}>", values["pattern"], values["word"]]


def shown(values: dict[str, Any], read: ReadTemplate, folder: Path) -> list[str]:
    """What the arguments of the loose template's command are."""
    (step,) = read.template.steps
    texts = {name: as_text(one) for name, one in values.items()}
    env, _ = environment_of(step, texts, {}, read.variables)
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", "--", filled_in(step.command, texts)],
        env={"PATH": "/usr/bin:/bin", **env},
        cwd=folder,
        capture_output=True,
        timeout=10,
        check=True,
    )
    return done.stdout.decode().split("\0")[:-1]


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> ReadTemplate:
    return read_template(template("one without rules", tmp_path_factory.mktemp("loose")))


@pytest.fixture(scope="module")
def loose_takes(loose: ReadTemplate) -> dict[str, TypeAdapter[Any]]:
    return adapters(loose)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(max_size=60))
def test_any_text_that_a_form_takes_reaches_the_command_as_it_is(
    value: str, loose: ReadTemplate, loose_takes: dict[str, TypeAdapter[Any]], tmp_path: Path
) -> None:
    values = accepted(loose_takes, FORMS["one without rules"], "pattern", value)
    if values is None:
        assert not value or any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in value)
    else:
        assert shown(values, loose, tmp_path) == literal(values)


UNSEEN = ["a\0", "a\x1b[2J", "\u202ea", "a\u200fb", "", "x" * 1001, "\x85"]
USUAL = ["-x", " x", "a\nb", "a\tb"]


@pytest.mark.parametrize("text", [*USUAL, *UNSEEN])
def test_text_without_a_rule_has_that_of_its_place(text: str, tmp_path: Path) -> None:
    """As an argument of a command it is one line without a dash; for the environment alone it is any that is seen."""
    read = read_template(template("one without rules", tmp_path))
    takes = adapters(read)
    good = FORMS["one without rules"]
    for name in ("text", "items", "word"):
        assert accepted(takes, good, name, text) is None
    assert accepted(takes, good, "items", "a,b") is None
    assert (accepted(takes, good, "anything", text) is None) == (text in UNSEEN)


def test_own_pattern_is_tried_in_linear_time_and_never_sent_to_prefect(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    slow = {"pattern": "(a+)+$"}
    path.write_text(
        json.dumps({**LOOSE, "params": {**LOOSE["params"], "text": slow, "items": slow | {"type": "list"}}})
    )
    read = read_template(path)
    takes = adapters(read)
    for name in ("text", "items"):
        assert accepted(takes, FORMS["one without rules"], name, "a" * 500 + "!") is None
    schema = json.dumps(runbook_of(read).parameters.model_dump()["properties"])
    assert "(a+)+" not in re.sub(r'"description": "[^"]*"', "", schema)
    assert "The whole of it matches (a+)+$" in schema


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("health_url", "http://h/~u"),
        ("health_url", "http://h/a..b"),
        ("git_ref", "a..b"),
        ("git_ref", "main\n"),
        ("odoo_db", "PARAM_X"),
        ("odoo_db", "git_ref"),
        ("items", "a,b"),
        ("items", "a b"),
    ],
)
def test_form_refuses_what_the_run_refuses(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    command = "echo ${params.health_url} ${params.git_ref} ${params.odoo_db} ${params.items} $git_ref"
    params = {"health_url": {}, "git_ref": {}, "odoo_db": {}, "items": {"type": "list"}}
    path.write_text(
        json.dumps({"kind": "t", "params": params, "steps": [{**LOOSE["steps"][0], "command": command, "env": {}}]})
    )
    read = read_template(path)
    field = runbook_of(read).parameters.model_dump()["properties"][name]
    for value, fine in ((text, False), ("http://h/a" if name == "health_url" else "good", True)):
        given = [value] if name == "items" else value
        assert Draft202012Validator(field).is_valid(given) == fine
        assert (accepted(adapters(read), {name: given}, name, value) is not None) == fine


def test_form_says_the_rule_of_a_text_in_a_command(tmp_path: Path) -> None:
    form = runbook_of(read_template(template("one without rules", tmp_path))).parameters.properties["word"]
    assert "letters, digits and _ . / " in form["description"]
    assert form["pattern"].startswith("^(?!")
    assert form["maxLength"] == 1000


def test_text_may_be_empty_where_the_template_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    params = {**LOOSE["params"], "word": {"min_length": 0}, "text": {"min_length": 0}}
    path.write_text(json.dumps({**LOOSE, "params": params}))
    read = read_template(path)
    takes = adapters(read)
    good = FORMS["one without rules"]
    assert accepted(takes, good, "word", "")
    assert accepted(takes, good, "text", "")
    assert accepted(takes, good, "anything", "") is None


def test_item_holds_no_comma_whatever_its_pattern(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    items = {"type": "list", "pattern": r"[\s\S]*"}
    path.write_text(json.dumps({**LOOSE, "params": {**LOOSE["params"], "items": items}}))
    read = read_template(path)
    takes = adapters(read)
    assert accepted(takes, FORMS["one without rules"], "items", "a b")
    assert accepted(takes, FORMS["one without rules"], "items", "a,b") is None


def test_pattern_is_for_the_whole_text(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**LOOSE, "params": {**LOOSE["params"], "text": {"pattern": "[a-z]+|x1"}}}))
    read = read_template(path)
    takes = adapters(read)
    good = FORMS["one without rules"]
    assert accepted(takes, good, "text", "abc")
    assert accepted(takes, good, "text", "x1")
    assert not any(accepted(takes, good, "text", text) for text in ("a1", "1a", "a\n", "x1; id"))


def test_types_bound_what_they_take(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    params = {
        "size": {"type": "integer", "minimum": 1, "maximum": 5},
        "share": {"type": "number", "default": 0.5},
        "sure": {"type": "boolean", "default": False},
        "colour": {"enum": ["red", "green"], "default": "red"},
        "count": {"type": "integer", "enum": [1, 3], "default": 3},
        "names": {"type": "list", "enum": ["a", "b"], "default": ["a"]},
    }
    path.write_text(
        json.dumps({"kind": "t", "params": params, "steps": [LOOSE["steps"][0] | {"command": "true", "env": {}}]})
    )
    runbook = runbook_of(read_template(path))
    assert runbook.validate_parameters({"size": 5}) == {
        "size": 5,
        "share": 0.5,
        "sure": False,
        "colour": "red",
        "count": 3,
        "names": ["a"],
    }
    for wrong in (
        {"size": 0},
        {"size": 6},
        {"size": "x"},
        {"size": 1, "share": float("nan")},
        {"size": 1, "sure": "perhaps"},
        {"size": 1, "colour": "blue"},
        {"size": 1, "count": 2},
        {"size": 1, "names": []},
        {"size": 1, "names": ["a", "a"]},
        {"size": 1, "names": ["c"]},
        {"size": 1, "other": 1},
        {},
    ):
        with pytest.raises((ParameterTypeError, TypeError)):
            runbook.validate_parameters(wrong)
    schema = runbook.parameters.model_dump()
    assert schema["required"] == ["size"]
    assert schema["properties"]["size"]["maximum"] == 5
    assert schema["properties"]["colour"]["enum"] == ["red", "green"]


def test_own_variable_of_a_step_takes_the_place_of_a_parameter() -> None:
    own = {"NAME": "Bearer ${params.token}", "TOKEN": "none", "plain": "$HOME ${params.name} ${params.name}"}
    one = PlainStep(name="a", command="echo ${params.name}", timeout=5, env=own)
    variables = {"name": ("PARAM_NAME", "name", "NAME"), "token": ("PARAM_TOKEN", "token", "TOKEN")}
    env, secret = environment_of(one, {"name": "good ${params.token}"}, {"token": "s3cret-token"}, variables)
    assert env == {
        "PARAM_NAME": "good ${params.token}",
        "name": "good ${params.token}",
        "TOKEN": "none",
        "plain": "$HOME good ${params.token} good ${params.token}",
    }
    assert secret == {"PARAM_TOKEN": "s3cret-token", "token": "s3cret-token", "NAME": "Bearer s3cret-token"}


def test_values_as_commands_read_them() -> None:
    assert [as_text(one) for one in ("a b", 3, 5.0, 0.5, True, False, ["a", "b"])] == [
        "a b",
        "3",
        "5",
        "0.5",
        "true",
        "false",
        "a,b",
    ]


def test_known_names_keep_their_rules_unless_one_is_declared() -> None:
    assert form_parameter("odoo_db", None) == KNOWN["odoo_db"]
    described = form_parameter("git_ref", Parameter(description="Which.", default="v1"))
    assert (described.annotation, described.default, described.description) == (
        KNOWN["git_ref"].annotation,
        "v1",
        "Which.",
    )
    assert form_parameter("git_ref", Parameter(pattern="v[0-9]+")).default is REQUIRED
    assert form_parameter("colour", None).description == ""


def test_form_describes_every_parameter(tmp_path: Path) -> None:
    for form in FORMS:
        for name, field in runbook_of(read_template(template(form, tmp_path))).parameters.properties.items():
            assert field["description"], (form, name)


def test_pattern_is_explained_in_the_words_of_its_template() -> None:
    declared = Parameter(pattern="/[a-z]*", words="an absolute path", description="Where to look.")
    one = form_parameter("folder", declared, Place("command"))
    assert one.description == f"Where to look. Takes an absolute path. Allowed: {IN_WORDS}."
    assert TypeAdapter(one.annotation).json_schema()["errorMessage"] == "an absolute path"
    with pytest.raises(ValidationError, match="'tmp' is not an absolute path"):
        TypeAdapter(one.annotation).validate_python("tmp")
    with pytest.raises(ValueError, match=r"^words: says what a pattern takes, and there is none"):
        form_parameter("folder", Parameter(words="an absolute path"))
