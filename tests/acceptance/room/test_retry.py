"""`ops retry` starts another attempt, and only where that is safe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for


@pytest.fixture
def failed(desk: Desk, store: Callable[..., str], own_folder: Path) -> tuple[str, Path]:
    """A run that failed since a file is missing, and the file."""
    wanted = own_folder / "wanted"
    block = store("wanting", f"echo looked; test -e {wanted}")
    answer = desk.ops("run", "stored_command", "-p", f"block={block}", "--wait", "--json")
    assert answer.code == 1
    return json.loads(answer.out)["id"], wanted


def test_failed_run_is_retried_with_its_parameters_and_keeps_both_attempts(
    desk: Desk, failed: tuple[str, Path]
) -> None:
    run, wanted = failed
    wanted.touch()
    assert desk.ops("retry", run, "--wait").fine().count("succeeded") >= 1
    shown = desk.json("show", run)
    assert (shown["status"], shown["attempt"], shown["error"]) == ("succeeded", 2, None)
    assert {step["attempt"]: step["status"] for step in shown["steps"]} == {1: "failed", 2: "succeeded"}
    assert any("with `ops retry`" in (state["message"] or "") for state in shown["states"])
    assert "succeeded: `ops rerun " in desk.ops("retry", run).refused(2)
    assert desk.json("show", run)["attempt"] == 2


def test_attempt_that_fails_again_says_so(desk: Desk, failed: tuple[str, Path]) -> None:
    run, _ = failed
    assert desk.ops("retry", run, "--wait").code == 1
    shown = desk.json("show", run)
    assert (shown["status"], shown["attempt"]) == ("failed", 2)


def test_run_that_is_not_over_is_not_retried(desk: Desk, store: Callable[..., str]) -> None:
    block = store("sleepy", "sleep 30")
    run = desk.json("run", "stored_command", "-p", f"block={block}")["id"]
    wait_for(lambda: desk.ops("show", run).code == 0, seconds=20, what="the run is recorded")
    assert "not over" in desk.ops("retry", run).refused(2)
    desk.ops("cancel", run, "--wait").fine()
    desk.ops("retry", run).fine()  # what was cancelled may be tried again
    desk.ops("cancel", run, "--wait").fine()
