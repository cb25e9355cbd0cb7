from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer

from cli import main
from opsdb.errors import OpsError, RoomUnreachableError, UsageError
from opsdb.settings import Settings


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
    assert ops(monkeypatch) == code
    assert capsys.readouterr() == ("", "ops: so\n")


def test_help_names_every_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ops(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert [name for name in Settings.model_fields if f"OPS_{name.upper()} " not in text] == []


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
    assert not loaded & {"prefect", "sqlmodel", "psycopg", "jsonschema", "flows.backup"}


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
