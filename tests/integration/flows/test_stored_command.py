"""Stored commands run as a step, and only where the operator of the host allows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.exceptions import ParameterTypeError
from prefect_shell import ShellOperation  # type: ignore[import-untyped]  # ships no types

from flows.stored_command import stored_command
from opsdb.errors import PreflightError, StepFailedError, StepTimeoutError


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_STORED_COMMANDS", "true")


def store(name: str, *commands: str, **fields: object) -> str:
    ShellOperation(commands=list(commands), **fields).save(name, overwrite=True)
    return name


def test_stored_command_is_refused_unless_switched_on(tmp_path: Path) -> None:
    block = store("switched-off", f"touch {tmp_path}/ran")
    with pytest.raises(PreflightError, match="OPS_STORED_COMMANDS=true"):
        stored_command(block)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("allowed")
def test_stored_command_runs_with_the_blocks_environment_and_folder(tmp_path: Path) -> None:
    block = store("writes", 'echo "$WORD" > word', "pwd >> word", env={"WORD": "a $(id) b"}, working_dir=tmp_path)
    assert stored_command(block)["exit_code"] == 0
    assert (tmp_path / "word").read_text() == f"a $(id) b\n{tmp_path}\n"


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("command", ["false", "false | cat", 'echo "$NOT_SET"'])
def test_stored_command_stops_at_the_first_error(tmp_path: Path, command: str) -> None:
    block = store("fails", command, f"touch {tmp_path}/ran")
    with pytest.raises(StepFailedError):
        stored_command(block)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("allowed")
def test_stored_command_has_a_deadline() -> None:
    with pytest.raises(StepTimeoutError):
        stored_command(store("hangs", "sleep 60"), timeout_seconds=1)


@pytest.mark.usefixtures("allowed")
def test_stored_command_refuses_another_shell_and_a_missing_block() -> None:
    with pytest.raises(PreflightError, match="bash only"):
        stored_command(store("python", "print()", shell="python"))  # noqa: S604 - a field of the block
    with pytest.raises(PreflightError, match="no Shell Operation block 'absent'"):
        stored_command("absent")


@pytest.mark.parametrize("parameters", [{"block": ""}, {"block": "A b"}, {"block": "a/b"}, {"block": "a\n"}])
def test_stored_command_refuses_odd_names(parameters: dict[str, str]) -> None:
    with pytest.raises(ParameterTypeError, match="block"):
        stored_command.validate_parameters(parameters)


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_stored_command_bounds_its_timeout(seconds: int) -> None:
    with pytest.raises(ParameterTypeError, match="timeout_seconds"):
        stored_command.validate_parameters({"block": "a", "timeout_seconds": seconds})
