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
    assert re.search("│   indented", out)
    assert "\x1b" not in out
    assert f"TO={path}" in re.sub("[│ \\n]", "", out)
