"""What a template file may say, and what is said of one that is not right."""

from __future__ import annotations

import json
import keyword
import os
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flows.template.known_parameters import KNOWN, REQUIRED
from flows.template.model import Parameter, RetryPolicy, Step, Template, template_schema
from flows.template.reading import ReadTemplate, read_template
from flows.template.run import runbook_of
from opsdb.kinds.template_files import TemplateError, problems_of

ROOT = Path(__file__).parents[4]
SEED = ROOT / "tests" / "seed_templates"
STEP = {"name": "one", "command": "true", "timeout": 5}


def write(folder: Path, content: Any, name: str = "t.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(folder: Path, **fields: Any) -> ReadTemplate:
    return read_template(write(folder, {"kind": "t", "steps": [STEP], **fields}))


def errors(path: Path) -> list[str]:
    with pytest.raises(TemplateError) as raised:
        read_template(path)
    lines = problems_of(raised.value)
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def wrong(folder: Path, **fields: Any) -> list[str]:
    return errors(write(folder, {"kind": "t", "steps": [STEP], **fields}))


@pytest.mark.parametrize(
    ("kind", "parameters", "programs", "seconds"),
    [
        (
            "odoo_fresh_deploy",
            {"git_ref": "main", "odoo_db": REQUIRED, "domain": REQUIRED, "email": REQUIRED},
            ("doctl", "bash", "git", "certbot", "curl"),
            1650,
        ),
        (
            "odoo_module_upgrade",
            {
                "compose_file": "deploy/docker-compose.prod.yml",
                "odoo_service": "odoo",
                "modules": REQUIRED,
                "odoo_db": REQUIRED,
            },
            ("git", "docker", "sleep", "curl"),
            870,
        ),
        (
            "odoo_db_backup",
            {"odoo_db": REQUIRED, "s3_bucket": REQUIRED},
            ("date", "pg_dump", "gzip", "s3cmd", "find"),
            1560,
        ),
    ],
)
def test_seed_is_understood_as_it_stands(
    kind: str, parameters: dict[str, Any], programs: tuple[str, ...], seconds: float
) -> None:
    template = read_template(SEED / f"{kind}.json")
    assert {one.name: one.default for one in template.parameters} == parameters
    assert template.programs == programs
    assert template.template.steps_seconds == seconds


def test_yaml_and_json_mean_the_same(tmp_path: Path) -> None:
    for seed in SEED.glob("*.json"):
        content = json.loads(seed.read_text())
        lines = [f"kind: {content['kind']}", "steps:"]
        for step in reversed(content["steps"]):  # each in flow style, its fields in another order
            lines.insert(2, f"- {json.dumps(dict(reversed(step.items())))}")
        yaml = write(tmp_path, "\n".join(lines), f"{seed.stem}.yaml")
        assert read_template(yaml).template.definition == read_template(seed).template.definition


def test_definition_is_the_meaning_and_changes_with_it(tmp_path: Path) -> None:
    before = read(tmp_path).template.definition
    assert read(tmp_path, description="", requeue=1).template.definition == before
    assert read(tmp_path, description="a").template.definition != before
    assert read(tmp_path, steps=[{**STEP, "timeout": 6}]).template.definition != before
    explained, plain = ({"where": {"pattern": "/[a-z]*", **words}} for words in ({"words": "a path"}, {}))
    assert read(tmp_path, params=explained).template.definition == read(tmp_path, params=plain).template.definition
    assert len(before) == 64


def test_what_is_no_number_of_seconds_is_one_error_that_quotes_it(tmp_path: Path) -> None:
    found = wrong(tmp_path, steps=[{**STEP, "timeout": "1h", "retries": "2", "env": {"int": 3}}], timeout_seconds="10")
    assert [line for line in found if "expected a number" in line] == [
        "timeout_seconds: expected a number of seconds, not '10'",
        "step one: timeout: expected a number of seconds, not '1h'",
    ]
    assert "step one: retries: expected a whole number" in found
    assert "step one: env: int: expected text: put quotes around 3" in found


def test_every_error_names_file_step_and_field(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        steps=[
            {"name": "a", "command": "true", "tiemout": 5},
            {"name": "b c", "command": "", "timeout": 0},
            {"name": "d", "command": "true", "timeout": 5, "env": {"1a": "x", "B": 7, "C": True}},
            {"name": "e", "command": "true", "timeout": 5, "on_failure": [{"name": "f", "timeout": 5, "retries": 1}]},
        ],
        params={"Bad": {}, "ok": {"pattern": 3}},
        on_failure=[{"name": "g", "command": "true", "timeout": "5"}],
        lane="E",
        colour="red",
    )
    assert [line.split(": ")[:-1] for line in found] != []
    text = "\n".join(found)
    for expected in (
        "step a: timeout: is missing",
        "step a: tiemout: no such field. Did you mean timeout? There are: name, command, timeout,",
        "step b c: name: ",
        "step b c: command: ",
        "step b c: timeout: ",
        "step d: env: 1a: cannot be the name of an environment variable",
        "step d: env: B: expected text: put quotes around 7",
        "step d: env: C: expected text: put quotes around True",
        "step e: on_failure step f: command: is missing",
        "step e: on_failure step f: retries: no such field",
        "on_failure step g: timeout: ",
        "param Bad: expected lower-case letters",
        "param ok: pattern: ",
        "lane: ",
        "colour: no such field",
    ):
        assert expected in text, (expected, text)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"steps": []}, "steps: "),
        ({"steps": [STEP, STEP]}, "step one: name: another step has that name"),
        ({"on_failure": [STEP]}, "on_failure step one: name: another step has that name"),
        (
            {"steps": [{**STEP, "must_run_again": True}, {**STEP, "name": "two", "approval": {"question": "?"}}]},
            "step two: approval: cannot come after step one, which must run again",
        ),
        ({"params": {"a": {"pattern": "x)|(?:.*"}}}, "param a: pattern: is not a regular expression"),
        ({"params": {"wait_for": {}}}, "param wait_for: Python or Prefect keeps that name"),
        ({"params": {"model_config": {}}}, "param model_config: Python or Prefect keeps that name"),
        ({"steps": [{**STEP, "command": "echo ${CLASS}"}]}, "step one: command: ${params.class}: Python or Prefect"),
        (
            {"steps": [{**STEP, "env": {"PARAM_A": "1"}}]},
            "step one: env: PARAM_A: names with PARAM_ in front are those",
        ),
        (
            {"steps": [{**STEP, "env": {"OPS_RUN_ID": "1"}}]},
            "step one: env: OPS_RUN_ID: a step cannot set that variable",
        ),
        ({"steps": [{**STEP, "env": {"A": "a\0b"}}]}, "step one: env: A: the value holds a NUL character"),
        ({"steps": [{**STEP, "env": {"PAGER": "${params.a}"}}]}, "step one: env PAGER: programs obey this"),
        ({"steps": [{**STEP, "env": {"GIT_CONFIG_COUNT": "${params.a}"}}]}, "step one: env GIT_CONFIG_COUNT: programs"),
        ({"exclusive": "db"}, "exclusive: 'db' is not a parameter of the form: there are none"),
        (
            {"exclusive": "token", "params": {"token": {"secret": {"env": "T"}}}},
            "exclusive: 'token' is not a parameter of the form: there are none",
        ),
        ({"params": {"a": {"secret": {}}}}, "param a: secret: expected either `block` or `env`"),
        ({"params": {"a": {"secret": {"env": "A"}, "default": "x"}}}, "param a: default: is not for a secret"),
        ({"params": {"a": {"pattern": "("}}}, "param a: pattern: is not a regular expression"),
        ({"params": {"a": {"pattern": "(?=x)"}}}, "param a: pattern: is not a regular expression"),
        ({"params": {"a": {"default": "\x1b"}}}, "param a: default: '\\x1b' is not a text without control"),
        (
            {"params": {"a": {"pattern": r"(a)\1"}}},
            "param a: pattern: is not a regular expression that can be used here",
        ),
        (
            {"params": {"a": {"min_length": 10, "max_length": 5}}},
            "param a: min_length: 10 is more than the longest text",
        ),
        (
            {"params": {"a": {"min_length": 2_000}}, "steps": [{**STEP, "command": "echo ${params.a}"}]},
            "param a: min_length: 2,000 is more than the longest text, 1,000: no value would do",
        ),
        ({"params": {"a": {"type": "number", "minimum": 10**400}}}, "param a: its limits make no type"),
        ({"params": {"a": {"type": "integer", "min_length": 0}}}, "param a: min_length: is not for type integer"),
        (
            {"params": {"a": {"default": "x y"}}, "steps": [{**STEP, "command": "echo ${params.a}"}]},
            "param a: default: a contains ' ', which is not allowed in the text of a command",
        ),
        (
            {"params": {"a": {"enum": ["b", "c;d"]}}, "steps": [{**STEP, "command": "echo ${params.a}"}]},
            "param a: enum: 'c;d': a contains ';', which is not allowed in the text",
        ),
        ({"params": {"a": {"type": "integer", "default": "x"}}}, "param a: default: "),
        ({"params": {"a": {"type": "integer", "pattern": "x"}}}, "param a: pattern: is not for type integer"),
        ({"params": {"a": {"type": "integer", "existing": "file"}}}, "param a: existing: is not for type integer"),
        ({"params": {"a": {"minimum": 1}}}, "param a: minimum: is not for type string"),
        ({"params": {"a": {"type": "number", "minimum": 2, "maximum": 1}}}, "param a: minimum: is above maximum"),
        ({"params": {"a": {"enum": [1]}}}, "param a: enum: 1 is not of type"),
        ({"params": {"odoo_db": {"default": "a b"}}}, "param odoo_db: default: 'a b' is not an Odoo database's name"),
        ({"steps": [{**STEP, "command": "echo ${params.a-b}"}]}, "step one: command: ${params.a-b}: "),
        ({"steps": [{**STEP, "env": {"A": "${params.a-b}"}}]}, "step one: env A: ${params.a-b}: "),
        ({"steps": [{**STEP, "env": {"LD_PRELOAD": "${params.a}"}}]}, "step one: env LD_PRELOAD: programs obey this"),
        ({"steps": [{**STEP, "command": "if true"}]}, "step one: command: bash cannot read it: line 2: "),
        ({"steps": [{**STEP, "command": "eval ${params.a}"}]}, "step one: command: ${params.a} is used after `eval`"),
        ({"steps": [{**STEP, "command": "(( $PARAM_A ))"}]}, "step one: command: PARAM_A is used in arithmetic"),
        (
            {"params": {}, "steps": [{**STEP, "command": "echo $PARAM_A"}]},
            "step one: command: a is not among the declared params",
        ),
        (
            {"params": {"domain": {}}, "steps": [{**STEP, "command": "echo ${params.domian}"}]},
            "step one: command: domian is not among the declared params. Did you mean domain?",
        ),
        (
            {"params": {"domain": {}}, "steps": [{**STEP, "env": {"A": "${params.x}"}}]},
            "step one: env A: x is not among the declared params: declare it",
        ),
        (
            {"params": {"domain": {}}, "steps": [{**STEP, "command": "echo ${NOT_SET}"}]},
            "step one: command: not_set is not among the declared params",
        ),
        (
            {"params": {"token": {"secret": {"env": "T"}}}, "steps": [{**STEP, "command": "curl ${params.token}"}]},
            "step one: command: ${params.token} is a secret",
        ),
        (
            {
                "params": {"token": {"secret": {"env": "T"}}},
                "steps": [{**STEP, "command": 'curl -H "$H" x', "env": {"H": "Bearer ${params.token}"}}],
            },
            "step one: command: $H is a secret and can be used directly after <<< only",
        ),
        (
            {"params": {"token": {"secret": {"env": "T"}}}, "steps": [{**STEP, "command": "curl -u $TOKEN x"}]},
            "step one: command: $TOKEN is a secret and can be used directly after <<< only",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    fields: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    assert any(line.startswith(expected) for line in wrong(tmp_path, **fields)), wrong(tmp_path, **fields)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", "{", "cannot be read as JSON"),
        ("a.yaml", "a: [", "cannot be read as YAML"),
        ("a.json", "[]", "expected an object with `kind` and `steps`, this is a list"),
        ("a.yaml", "", "this is empty"),
        ("a.yaml", "backup", "this is text"),
        ("a.json", "5", "this is a single value"),
        ("a.json", '{"kind": "a", "kind": "b"}', "'kind' appears twice"),
        ("a.yml", "kind: a\nkind: b\n", "'kind' appears twice"),
        ("a.yaml", "kind: a\nsteps: !!python/object/apply:os.system [id]\n", "cannot be read as YAML"),
        ("a.yaml", "kind: a\nwhen: 2026-01-01\n", "2026-01-01 is a date to YAML: put quotes around it"),
        ("a.yaml", "kind: a\nmode: 0755\n", "'0755' is not a decimal number"),
        ("a.yaml", "kind: a\nat: 1:30\n", "'1:30' is not a decimal number"),
        ("a.yaml", "kind: a\nat: 1:30.5\n", "'1:30.5' is not a decimal number"),
        ("a.yaml", "kind: a\nsize: 1_000\n", "'1_000' is not a decimal number"),
        ("a.json", '\ufeff{"kind": "a"}', "begins with a byte order mark: save it as UTF-8 without one"),
        ("a.yaml", 'kind: !!int ""', "cannot be read as YAML"),
        ("a.yaml", "kind: !!bool maybe", "cannot be read as YAML"),
        ("a.yaml", "kind: !!timestamp abc", "cannot be read as YAML"),
        ("a.yaml", "kind: &a a\nsteps: [*a, *a]", "a template has no aliases"),
        ("a.toml", "kind = 1", "ends in .json, .yaml, .yml"),
        ("a.json", '{"kind": "a\\ud800"}', "cannot be read as JSON"),
    ],
)
def test_file_that_cannot_be_read_says_why_in_one_line(name: str, text: str, expected: str, tmp_path: Path) -> None:
    (line,) = errors(write(tmp_path, text, name))
    assert expected in line


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert errors(tmp_path / "a.yaml") == ["is not a regular file"]


def test_errors_of_several_steps_are_told_together(tmp_path: Path) -> None:
    evil = {"name": "two", "command": "eval ${params.a} ${params.b}; (( $a ))", "timeout": 5}
    found = wrong(tmp_path, steps=[{**STEP, "command": "exec ${params.a}"}, evil, STEP | {"name": "three"}])
    assert list(dict.fromkeys(line.split(":")[0] for line in found)) == ["step one", "step two"]
    found = wrong(tmp_path, steps=[{**STEP, "command": "if"}, {**evil, "command": "fi"}, STEP])
    assert [line.split(":")[0] for line in found] == ["step one", "step one", "step two"]
    unread = {**STEP, "name": "three", "command": "if ${params.d}", "env": {"A": "${params.bad}"}}
    bad = {"bad": {"pattern": "("}, "a": {}, "b": {}, "d": {}}
    found = wrong(tmp_path, params=bad, exclusive="d", steps=[{**STEP, "env": {"A": "${params.bad}"}}, evil, unread])
    assert list(dict.fromkeys(line.split(":")[0] for line in found)) == ["step three", "param bad", "step two"]


@pytest.mark.parametrize("timeout", ["1h", True, None, 0, -1, 1e9, [5], "9" * 10_000])
def test_time_that_cannot_be_is_one_line(timeout: object, tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, steps=[{**STEP, "timeout": timeout}])
    assert line.startswith("step one: timeout: ")
    assert len(line) < 100


def test_missing_and_huge_files_say_so(tmp_path: Path) -> None:
    assert "No such file" in errors(tmp_path / "none.json")[0]
    assert "that is too large for a template" in errors(write(tmp_path, " " * 2**21))[0]


def test_without_params_they_are_what_the_commands_name(tmp_path: Path) -> None:
    command = 'echo ${params.a} "${B_C}" ${D:-x} $E ${HOME} ${PWD}; f=1; echo ${f}'
    found = read(tmp_path, steps=[{**STEP, "command": command, "env": {"G": "${params.g}"}}])
    assert [one.name for one in found.parameters] == ["a", "b_c", "g"]


def test_variable_of_another_steps_environment_is_a_parameter(tmp_path: Path) -> None:
    """A step's environment is its own: what it calls ODOO_DB is nothing to the next one."""
    steps = [{**STEP, "env": {"ODOO_DB": "${params.odoo_db}"}}, {**STEP, "name": "two", "command": "echo ${ODOO_DB}"}]
    found = read(tmp_path, steps=steps)
    assert [one.name for one in found.parameters] == ["odoo_db"]
    assert found.variables["odoo_db"] == ("PARAM_ODOO_DB", "ODOO_DB")


def test_variable_that_the_step_sets_itself_is_the_shells(tmp_path: Path) -> None:
    found = read(tmp_path, steps=[{**STEP, "command": "echo ${OPTIONS}", "env": {"OPTIONS": "-a -b"}}])
    assert found.parameters == ()


def test_programs_are_those_of_the_file_if_it_names_them(tmp_path: Path) -> None:
    assert read(tmp_path, steps=[{**STEP, "command": "jq . && nano"}]).programs == ("jq", "nano")
    assert read(tmp_path, preflight=[], steps=[{**STEP, "command": "jq ."}]).programs == ()
    assert read(tmp_path, preflight=["git"]).programs == ("git",)


@pytest.mark.parametrize(
    "name", [*keyword.kwlist, "copy", "json", "args", "kwargs", "v__args", "model_x", "git_ref", "path", "editor"]
)
def test_name_of_a_parameter_is_refused_or_makes_a_runbook(name: str, tmp_path: Path) -> None:
    try:
        found = read(tmp_path, params={name: {}})
    except TemplateError:
        assert keyword.iskeyword(name) or name in ("v__args", "model_x")
        return
    assert runbook_of(found).validate_parameters({name: "x"}) == {name: "x"}


def test_deadline_is_what_steps_tries_and_pauses_add_up_to(tmp_path: Path) -> None:
    steps = [{**STEP, "retries": 2, "on_failure": [{**STEP, "name": "a", "timeout": 7}]}, {**STEP, "name": "two"}]
    template = read(
        tmp_path, steps=steps, retry_policy={"retries": 1, "delay_seconds": 10}, on_failure=[{**STEP, "name": "b"}]
    ).template
    assert template.steps_seconds == (3 * 5 + 2 * 10) + (2 * 5 + 10)
    assert template.on_failure_seconds == 7 + 5


def test_run_is_bounded_and_repeated_and_alone_as_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def runbook(**words: Any) -> Any:
        asked.update(words)
        return lambda function: function

    monkeypatch.setattr("flows.template.run.runbook", runbook)
    after = [{**STEP, "name": "after"}]
    one = read(tmp_path, requeue=3, exclusive="odoo_db", params={"odoo_db": {}}, on_failure=after)
    function: Any = runbook_of(one)
    assert asked.pop("version") == one.template.definition
    assert asked == {"deadline_seconds": 5 + 5 + 2 * 7 + 60, "max_attempts": 3, "exclusive": "odoo_db", "subject": None}
    assert function.__name__ == "t"
    runbook_of(read(tmp_path, timeout_seconds=3))
    assert (asked["deadline_seconds"], asked["max_attempts"], asked["exclusive"]) == (3 + 7 + 60, 1, None)


def test_question_of_an_approval_names_parameters_and_no_secret(tmp_path: Path) -> None:
    asking = {**STEP, "approval": {"question": "greet ${params.name}?"}}
    assert [one.name for one in read(tmp_path, steps=[asking]).parameters] == ["name"]
    params = {"name": {"secret": {"env": "NAME"}}}
    with pytest.raises(TemplateError, match="approval: question: name is secret"):
        read(tmp_path, steps=[asking], params=params)
    with pytest.raises(TemplateError, match="approval: question: name is not among the declared params"):
        read(tmp_path, steps=[asking], params={})
    with pytest.raises(TemplateError, match=r"approval: questoin: no such field\. Did you mean question\?"):
        read(tmp_path, steps=[{**STEP, "approval": {"questoin": "?"}}])


def test_folders_are_below_the_templates_own(tmp_path: Path) -> None:
    steps = [STEP, {**STEP, "name": "two", "working_dir": "sub"}, {**STEP, "name": "three", "working_dir": "/"}]
    found = read(tmp_path, steps=steps)
    folders = [found.folder_of(one) for one in found.template.steps]
    assert folders == [tmp_path, tmp_path / "sub", Path("/")]


def test_schema_in_the_documents_is_that_of_the_model() -> None:
    """`ops template schema > docs/template.schema.json` writes it."""
    schema = json.loads((ROOT / "docs" / "template.schema.json").read_text())
    assert schema == json.loads(json.dumps(template_schema()))
    validator = Draft202012Validator(schema)
    for seed in SEED.glob("*.json"):
        validator.validate(json.loads(seed.read_text()))
    assert not validator.is_valid({"kind": "t", "steps": [{**STEP, "colour": "red"}]})


def test_examples_of_the_page_are_right(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "templates.md").read_text()
    examples = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    found = [read_template(write(tmp_path, text, "example.yaml")) for text in examples]
    names = [[one.name for one in each.parameters] for each in found]
    assert names == [["service", "port"], ["text", "level"], ["db"]]


def test_example_of_the_everyday_tasks_is_right(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "README.md").read_text()
    [example] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    template = read_template(write(tmp_path, example, "restart_service.yaml")).template
    assert [step.approval is not None for step in template.steps] == [True]


def test_page_names_every_field_and_every_known_parameter() -> None:
    page = (ROOT / "docs" / "templates-reference.md").read_text()
    fields = {*Template.model_fields, *Step.model_fields, *Parameter.model_fields, *RetryPolicy.model_fields, *KNOWN}
    assert [name for name in sorted(fields) if f"`{name}`" not in page] == []


def test_every_field_is_described_for_editors() -> None:
    schema = template_schema()
    for model in (schema, *schema["$defs"].values()):
        for name, field in model.get("properties", {}).items():
            assert "description" in field or "$ref" in field, (model["title"], name)


def test_schema_key_for_editors_is_no_part_of_the_template(tmp_path: Path) -> None:
    plain = read(tmp_path).template.definition
    path = write(tmp_path, {"$schema": "x", "kind": "t", "steps": [STEP]})
    assert read_template(path).template.definition == plain
    assert Template.model_fields.keys() >= {"kind", "steps"}


def test_subject_names_parameters_of_the_form_and_no_secret(tmp_path: Path) -> None:
    greet = {**STEP, "command": "echo ${params.name}"}
    assert read(tmp_path, steps=[greet], subject="${params.name} · greeting").template.subject
    with pytest.raises(TemplateError, match=r"subject: 'nmae' is not a parameter of the form: name"):
        read(tmp_path, steps=[greet], subject="${params.nmae}")
    secret = {"name": {}, "token": {"secret": {"env": "TOKEN"}}}
    with pytest.raises(TemplateError, match="subject: token is secret, and everybody reads what a run is called"):
        read(tmp_path, steps=[greet], params=secret, subject="${params.name} with ${params.token}")
    for wrong_one in ("", "a\nb", "x" * 201):
        with pytest.raises(TemplateError, match="subject: "):
            read(tmp_path, steps=[greet], subject=wrong_one)


def test_what_its_runs_are_called_is_no_part_of_what_a_template_does(tmp_path: Path) -> None:
    greet = {**STEP, "command": "echo ${params.name}"}
    plain = read(tmp_path, steps=[greet]).template.definition
    assert read(tmp_path, steps=[greet], subject="${params.name}").template.definition == plain
