from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import main
from opsdb.errors import OpsError, RoomUnreachableError, UsageError
from opsdb.settings import Settings
from tests.support.documents import ROOT


def ops(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ops", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run"], "ops: Missing argument 'KIND'. See `ops run --help`"),
        (["rum"], "ops: No such command 'rum'. Did you mean 'run'? See `ops --help`"),
        (
            ["cancel", "last", "--yes"],
            "ops: --yes goes with --all: one run is cancelled without a question. Hint: leave it out",
        ),
        (
            ["cancel", "last", "--lane", "B"],
            "ops: --kind, --lane and --for go with --all, and not with a RUN: leave one of them out",
        ),
        (["runs", "--nope"], "ops: No such option: --nope (Possible options: --lane, --since). See `ops runs --help`"),
        (["db", "x"], "ops: No such command 'x'. See `ops db --help`"),
    ],
)
def test_wrong_usage_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert ops(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("so"), 2), (RoomUnreachableError("so"), 3), (OpsError("so"), 2)]
)
def test_error_becomes_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OpsError, code: int
) -> None:
    def fail(**_arguments: object) -> None:
        raise error

    monkeypatch.setattr(main, "make_app", lambda _word: fail)
    assert ops(monkeypatch, "runs") == code
    assert capsys.readouterr() == ("", "ops: so\n")


def test_help_says_of_each_command_what_the_command_says_itself() -> None:
    """It is read out of the files, which are not imported."""
    whole: Any = typer.main.get_command(main.make_app())
    summary: Any = typer.main.get_command(main.make_summary())
    assert set(summary.commands) == set(whole.commands)
    for word, command in whole.commands.items():
        shown = summary.commands[word]
        assert (shown.help, shown.rich_help_panel) == (command.help, command.rich_help_panel), word


@pytest.mark.parametrize("words", [["run"], ["cancel"], ["alerts", "ack"], ["backups", "sign"]])
def test_help_breaks_lines_where_the_terminal_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert ops(monkeypatch, *words, "--help") == 0
    text = capsys.readouterr().out.partition("\u256d")[0]
    lines = [line.strip() for line in text.splitlines()]
    broken = [
        f"{line} | {after}"
        for line, after in pairwise(lines)
        if line and after and len(line) + 1 + len(after.split()[0]) <= 78
    ]
    assert broken == []


def test_settings_are_named_with_what_they_are_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPS_SETTLED", "1")
    assert ops(monkeypatch, "settings", "--meanings") == 0
    text = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"{name} " in text
        assert str(field.description) in text


def test_settings_show_what_is_in_effect_and_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    monkeypatch.setenv("OPS_PREFECT_PORT", "4311")
    (tmp_path / "ops.toml").write_text("lane_limit = 5\n")
    (tmp_path / "ops.toml").chmod(0o600)
    assert ops(monkeypatch, "settings") == 0
    shown = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()}
    assert shown["prefect_port"] == "4311   (OPS_PREFECT_PORT in the environment)"
    assert shown["lane_limit"] == f"5   ({tmp_path}/ops.toml, line 1)"
    assert shown["health_port"] == "3000   (default)"
    assert shown["backup_dir"] == f"{tmp_path}/backups   (default)"
    assert shown["server_url"] == "http://127.0.0.1:4311   (default)"
    assert shown["odoo_database_url"] == "not set: the room's own server   (default)"
    assert shown["alert_urls"] == "not set   (default)"
    assert ops(monkeypatch, "settings", "--json") == 0
    rows = {one["name"]: one for one in json.loads(capsys.readouterr().out)["settings"]}
    assert (rows["backup_dir"]["value"], rows["backup_dir"]["from"]) == (str(tmp_path / "backups"), "default")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["rum"], ["--version"]])
def test_what_names_no_command_imports_none(arguments: list[str]) -> None:
    code = "import sys; from cli import main; sys.argv[1:] = sys.argv[2:]; sys.exit = print; main.main()"
    code += "; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "ops", *arguments], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {*main.FILES}
    heavy = {"prefect", "sqlalchemy", "sqlmodel", "psycopg", "httpx", "apprise", "boto3", "jsonschema"}
    assert not loaded & heavy
    assert "opsdb.settings" not in loaded


def test_version_names_the_room_and_what_it_stands_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ops(monkeypatch, "--version") == 0
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out.startswith(f"ops {version} (Prefect 3.")


def test_each_word_of_the_command_line_stands_beside_the_file_that_has_it() -> None:
    for file, words in main.FILES.items():
        command: Any = typer.main.get_command(main.make_app(words[0]))
        assert tuple(command.commands) == words, file


def test_word_alone_imports_no_other_file() -> None:
    """What is imported for nothing delays the start of each part of the room."""
    code = "import sys; from cli.main import make_app; make_app('deploy'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"cli.deploy"} == loaded & {*main.FILES}
    assert not loaded & {"prefect", "sqlalchemy", "sqlmodel", "psycopg", "jsonschema", "flows.backup"}


def test_no_command_imports_prefect_before_it_was_said_where_the_room_is() -> None:
    """Prefect reads its settings when it is loaded: `ops doctor` said of a running room that none runs."""
    code = "import sys; from cli.main import make_app; make_app(); import cli.doctor.host, flows.backup.folder; "
    code += "print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("word", ["status", "settings"])
def test_command_that_needs_no_database_imports_nothing_of_one(word: str) -> None:
    code = f"import sys; from cli.main import make_app; make_app('{word}'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"prefect", "sqlalchemy", "sqlmodel", "psycopg", "httpx", "jsonschema"}


@pytest.mark.parametrize(
    ("redirected", "code"),
    [("> >(exec true)", 0), (">/dev/full", main.OUTPUT_LOST), (">&-", 0), ("<&- >&- 2>&-", 0)],
)
def test_command_whose_output_goes_nowhere_says_so_without_a_traceback(redirected: str, code: int) -> None:
    command = ["/bin/bash", "-c", f'"$@" {redirected}', "bash", sys.executable, "-m", "cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    assert done.stderr == (
        "ops: the output could not be written (No space left on device); the command itself did what it says\n"
        if code
        else ""
    )
