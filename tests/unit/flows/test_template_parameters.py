"""Case 16 for templates: what a form takes is what the rule says, and whatever it takes stays a value."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect import Flow
from prefect.exceptions import ParameterTypeError

from flows.template_model import Parameter, PlainStep
from flows.template_parameters import KNOWN, REQUIRED, as_text, form_parameter
from flows.template_reading import ReadTemplate, read_template
from flows.template_run import environment_of, runbook_of
from tests.unit.flows.test_hostile_parameters import HOSTILE

SEED = Path(__file__).parents[2] / "seed_templates"
PAYLOADS = [
    *HOSTILE,
    *(f"{mark}touch canary{end}" for mark, end in (("$(", ")"), ("`", "`"), ("; ", ""), ("|", ""), ("'; ", " '"))),
    *(
        f"{start}$(touch canary){end}"
        for start in ("a[", "'", '"', "\\", "${", "((", "x=", "\n")
        for end in ("]", "'", '"')
    ),
    "-oProxyCommand=touch canary",
    "\u2028touch canary",
    "\ufeffx",
]
FORMS: dict[str, dict[str, Any]] = {
    "seed's deploy": {"git_ref": "main", "odoo_db": "good", "domain": "good.example", "email": "a@good.example"},
    "seed's upgrade": {"compose_file": "good.yml", "odoo_service": "good", "modules": ["good"], "odoo_db": "good"},
    "seed's backup": {"odoo_db": "good", "s3_bucket": "good/db"},
    "one without rules": {"text": "good", "items": ["good"], "anything": "good"},
}
FILES = {
    "seed's deploy": SEED / "odoo_fresh_deploy.json",
    "seed's upgrade": SEED / "odoo_module_upgrade.json",
    "seed's backup": SEED / "odoo_db_backup.json",
}
LOOSE: dict[str, Any] = {
    "kind": "loose",
    "params": {"text": {}, "items": {"type": "list"}, "anything": {"pattern": r"[\s\S]*", "max_length": 5000}},
    "steps": [
        {
            "name": "say",
            "timeout": 5,
            "env": {"BOTH": "<${params.text}|${params.anything}>"},
            "command": "printf '%s\\0' ${params.text} 'a'${params.items} \"b\"${params.anything} $text ${ITEMS}"
            ' $anything "$BOTH" "$(cat <<< ${params.anything}.)"',
        }
    ],
}


def template(form: str, folder: Path) -> Path:
    if form in FILES:
        return FILES[form]
    path = folder / "loose.json"
    path.write_text(json.dumps(LOOSE))
    return path


def accepted(runbook: Flow[..., Any], good: dict[str, Any], name: str, value: str) -> dict[str, Any] | None:
    try:
        return runbook.validate_parameters({**good, name: [value] if isinstance(good[name], list) else value})
    except (ParameterTypeError, UnicodeEncodeError):
        return None


def test_there_are_more_than_200_hostile_texts() -> None:
    assert len(set(PAYLOADS)) > 200


@pytest.mark.parametrize("form", FORMS)
def test_hostile_text_is_refused_or_literal(form: str, tmp_path: Path) -> None:
    """Texts with a rule take nothing that means something to a shell. The others are what the command gets."""
    read = read_template(template(form, tmp_path))
    runbook = runbook_of(read)
    good = FORMS[form]
    assert runbook.validate_parameters(good)
    taken = 0
    for name in good:
        for value in PAYLOADS:
            values = accepted(runbook, good, name, value)
            if values is None:
                continue
            if form in FILES:
                assert set(value) <= set("go/=@~d-_."), (name, value)
            else:
                taken += 1
                assert shown(values, read, tmp_path) == literal(values)
    assert form in FILES or taken > 100, "one that takes anything is there to take it"
    assert not list(tmp_path.rglob("canary*"))


def literal(values: dict[str, Any]) -> list[str]:
    a, b, c = (as_text(values[name]) for name in ("text", "items", "anything"))
    return [a, f"a{b}", f"b{c}", a, b, c, f"<{a}|{c}>", f"{c}."]


def shown(values: dict[str, Any], read: ReadTemplate, folder: Path) -> list[str]:
    """What the arguments of the loose template's command are."""
    (step,) = read.template.steps
    env, _ = environment_of(step, {name: as_text(one) for name, one in values.items()}, {})
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", "--", read.commands["say"]],
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


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(max_size=60))
def test_any_text_that_a_form_takes_reaches_the_command_as_it_is(
    value: str, loose: ReadTemplate, tmp_path: Path
) -> None:
    values = accepted(runbook_of(loose), FORMS["one without rules"], "anything", value)
    if values is None:
        assert any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in value)
    else:
        assert shown(values, loose, tmp_path) == literal(values)


@pytest.mark.parametrize("text", ["-x", " x", "a\nb", "a\0", "a\x1b[2J", "\u202ea", "a\u200fb", "", "x" * 1001, "\x85"])
def test_text_without_a_rule_has_the_usual_one(text: str, tmp_path: Path) -> None:
    runbook = runbook_of(read_template(template("one without rules", tmp_path)))
    assert accepted(runbook, FORMS["one without rules"], "text", text) is None
    assert accepted(runbook, FORMS["one without rules"], "items", text) is None
    assert accepted(runbook, FORMS["one without rules"], "items", "a,b") is None


def test_item_holds_no_comma_whatever_its_pattern(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    items = {"type": "list", "pattern": r"[\s\S]*"}
    path.write_text(json.dumps({**LOOSE, "params": {**LOOSE["params"], "items": items}}))
    runbook = runbook_of(read_template(path))
    assert accepted(runbook, FORMS["one without rules"], "items", "a b")
    assert accepted(runbook, FORMS["one without rules"], "items", "a,b") is None


def test_pattern_is_for_the_whole_text(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**LOOSE, "params": {**LOOSE["params"], "text": {"pattern": "[a-z]+|x1"}}}))
    runbook = runbook_of(read_template(path))
    good = FORMS["one without rules"]
    assert accepted(runbook, good, "text", "abc")
    assert accepted(runbook, good, "text", "x1")
    assert not any(accepted(runbook, good, "text", text) for text in ("a1", "1a", "a\n", "x1; id"))


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
    env, secret = environment_of(one, {"name": "good ${params.token}"}, {"token": "s3cret-token"})
    assert env == {
        "name": "good ${params.token}",
        "params_name": "good ${params.token}",
        "TOKEN": "none",
        "plain": "$HOME good ${params.token} good ${params.token}",
    }
    assert secret == {"token": "s3cret-token", "NAME": "Bearer s3cret-token"}


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
