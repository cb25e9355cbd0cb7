"""What `ops template` says of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.template import check, schema
from opsdb.kinds.template_files import TemplateError

STEP = {"name": "one", "timeout": 5}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments:\n  - {entrypoint: flows.taken.taken}\n")
    monkeypatch.setenv("OPS_PREFECT_YAML", str(file))
    monkeypatch.setenv("COLUMNS", "200")
    return file


def write(folder: Path, **fields: object) -> Path:
    path = folder / "t.json"
    path.write_text(json.dumps({"kind": "t", "steps": [{**STEP, "command": "echo ${params.word}"}], **fields}))
    return path


@pytest.mark.usefixtures("registry")
def test_check_shows_what_was_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = {
        "word": {"description": "To say.", "enum": ["a", "b"], "default": "a"},
        "token": {"secret": {"block": "chat-token"}},
    }
    after = [{"name": "after", "command": "true", "timeout": 3}]
    path = write(tmp_path, params=params, requeue=3, lane="B", on_failure=after, retry_policy={"retries": 1})
    check([path])
    said = capsys.readouterr().out
    for part in (
        "t: lane B, at most 15 s, started up to 3 times",
        "To say.",
        "enum ['a', 'b']",
        "Secret block chat-token",
        "echo ${params.word}",
        "after any failure: after",
        tmp_path.name[:10],  # the rest of the folder stands on lines of its own
    ):
        assert part in said
    check([path], as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["params"][0]["default"] == "a"
    assert found["secrets"] == {"token": {"block": "chat-token"}}
    assert found["steps"][0]["tries"] == 2
    assert found["on_failure"][0]["timeout_seconds"] == 3


@pytest.mark.usefixtures("registry")
def test_check_of_a_wrong_file_says_everything_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, lane="Z", requeue=0)
    with pytest.raises(TemplateError, match=r"t.json: lane: (.|\n)*t.json: requeue: "):
        check([path])
    with pytest.raises(typer.Exit) as ended:
        check([path], as_json=True)
    assert ended.value.exit_code == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], len(found["errors"])) == (False, 2)


@pytest.mark.usefixtures("registry")
def test_kind_must_be_free_but_for_the_next_version_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TemplateError, match=r"kind: taken is a runbook of prefect.yaml already"):
        check([write(tmp_path, kind="taken")])
    folder = tmp_path / "templates"
    folder.mkdir()
    monkeypatch.setenv("OPS_TEMPLATES", str(folder))
    kept = write(folder)
    check([kept])
    check([write(tmp_path)])
    (folder / "copy.json").write_text(kept.read_text())
    with pytest.raises(TemplateError, match=r"kind: t is the kind of .*copy\.json too"):
        check([kept])


@pytest.mark.usefixtures("registry")
def test_several_files_are_checked_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write(tmp_path), tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(TemplateError, match=r"\A[^\n]*bad\.json: kind: is missing"):
        check([good, bad])
    assert "t: every lane" in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        check([good, bad], as_json=True)
    assert [one["valid"] for one in json.loads(capsys.readouterr().out)] == [True, False]


@pytest.mark.usefixtures("registry")
def test_advice_of_shellcheck_refuses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "cd /srv\necho ${params.word} $PARAM_TEXT `date`"
    check([write(tmp_path, steps=[{**STEP, "command": command}])], as_json=True)
    advice = json.loads(capsys.readouterr().out)["advice"]
    assert [line.partition(": Double quote")[0] for line in advice if "SC2086" in line] == ["step one: line 2"]
    assert any("SC2006" in line for line in advice)
    assert not any("SC2154" in line for line in advice)  # its variables come by the environment


@pytest.mark.usefixtures("registry")
def test_scripts_that_miss_a_variable_are_named_with_the_line_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "script.sh").write_text('echo "$LEVEL $size" "$PARAM_WORD"\n')
    (tmp_path / "docker-compose.yml").write_text("image: odoo:${TAG}\n")
    steps = [{**STEP, "command": "bash script.sh; docker compose up -d"}, {**STEP, "name": "two", "command": "id"}]
    params: dict[str, Any] = {name: {} for name in ("level", "size", "tag", "word", "unread")}
    check([write(tmp_path, params=params, steps=steps)], as_json=True)
    changes = [line.partition("t.json: ")[2] for line in json.loads(capsys.readouterr().out)["changes"]]
    assert changes == [
        f"step one: {tmp_path}/script.sh reads LEVEL, which the step does not have: "
        'env: {LEVEL: "${params.level}"}',
        f'step one: {tmp_path}/script.sh reads size, which the step does not have: env: {{size: "${{params.size}}"}}',
        f"step one: {tmp_path}/docker-compose.yml reads TAG, which the step does not have: "
        'env: {TAG: "${params.tag}"}',
        "param unread: nothing names it, programs have it as PARAM_UNREAD alone. A program that reads UNREAD needs "
        'in its step: env: {UNREAD: "${params.unread}"}',
    ]
    steps[0]["env"] = {"LEVEL": "${params.level}", "size": "${params.size}", "TAG": "${params.tag}"}
    del params["unread"]
    check([write(tmp_path, params=params, steps=steps)], as_json=True)
    assert json.loads(capsys.readouterr().out)["changes"] == []


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    schema()
    assert json.loads(capsys.readouterr().out)["required"] == ["kind", "steps"]
