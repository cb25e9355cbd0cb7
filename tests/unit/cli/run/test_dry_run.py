"""`ops run --dry-run`: what is printed of the steps."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from cli.run import dry_run as command
from flows.engine.active_run import PlannedStep
from flows.engine.dry_run import DryRun
from opsdb.tables import Lane


def test_dry_run_shows_commands_and_values_whole_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/very/long/" + "x" * 300 + "/end"
    shell = 'echo "$A  $B"\n  indented\x1b[31m'
    step = PlannedStep(1, "dump", shell, 5, {"TO": path}, preflight=False)
    monkeypatch.setattr(command, "console", Console(width=60))
    command._print(DryRun(steps=[step], warnings=[], error=None), kind="x", lane=Lane.A)
    out = capsys.readouterr().out
    assert 'echo "$A  $B"' in out
    assert re.search("^      indented", out, re.MULTILINE)
    assert "\x1b" not in out
    assert f"    TO={path}" in out.splitlines()


@pytest.mark.parametrize(
    ("preflight", "said"),
    [(True, "It would fail, and change nothing: "), (False, "It would start, and as things are now it would fail: ")],
)
def test_error_is_whole_and_says_whether_anything_would_have_begun(
    preflight: bool, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = f"2 databases cannot be reached:\nshop: {'x' * 700}\nend"
    step = PlannedStep(1, "look", "look", 0, {}, preflight=preflight)
    monkeypatch.setattr(command, "console", Console(width=60))
    command._print(DryRun(steps=[step], warnings=[], error=error), kind="x", lane=Lane.A)
    assert capsys.readouterr().out.endswith(f"{said}{error}\n")
