"""The fixtures for the tests of runbooks: what they say is what a run is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from flows.engine.approval import approval
from flows.engine.runbook import runbook
from flows.engine.step import action, step
from flows.testing import Program, RunRunbook
from opsdb.errors import UsageError
from opsdb.settings import load_settings


@runbook(deadline_seconds=9)
def greeting(whom: Annotated[str, Field(pattern="^[A-Z]")], seconds: float = 5, ask: bool = False) -> dict[str, Any]:
    known = action("look", lambda: load_settings().home.name, about="look where the room is", preflight=True)
    said = step("say", 'greet "$WHOM" && echo "hello $WHOM"', timeout=seconds, env={"WHOM": whom})
    if ask:
        approval("may_it", f"go on with {whom}?", timeout=60)
    return {"said": said.stdout, "home": known}


@runbook(deadline_seconds=9)
def buggy() -> None:
    raise KeyError("a bug")


def test_run_has_its_steps_and_its_result(
    run_runbook: RunRunbook, stand_in: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    greet = stand_in("greet")
    run = run_runbook(greeting, whom="Ada\nL.")
    assert (run.status, run.error) == ("succeeded", None)
    look, say = run.steps
    assert (look.name, look.command, look.status, look.exit_code) == (
        "look",
        "look where the room is",
        "succeeded",
        None,
    )
    assert (say.name, say.timeout_seconds, say.exit_code) == ("say", 5, 0)
    assert say.stdout == run.result["said"] == "hello Ada\nL.\n"
    assert run.result["home"].startswith("room")
    run_runbook(greeting, whom="B")
    assert greet.calls == [["Ada\nL."], ["B"]]


def test_failure_and_time_limit_end_it_as_in_a_lane(run_runbook: RunRunbook, stand_in: Callable[..., Program]) -> None:
    stand_in("greet", "exit 7")
    failed = run_runbook(greeting, whom="A")
    assert (failed.status, failed.steps[-1].status, failed.steps[-1].exit_code) == ("failed", "failed", 7)
    assert failed.error == failed.steps[-1].error
    stand_in("greet", "sleep 60")
    late = run_runbook(greeting, whom="A", seconds=0.1)
    assert late.status == "failed"
    assert "0.1 s" in (late.error or "")


def test_wrong_parameters_and_bugs_are_raised(run_runbook: RunRunbook) -> None:
    with pytest.raises(UsageError, match="do not fit greeting"):
        run_runbook(greeting, whom="ada")
    with pytest.raises(UsageError, match="do not fit greeting"):
        run_runbook(greeting, whom="A", colour="red")
    with pytest.raises(KeyError):
        run_runbook(buggy)


def test_run_that_asks_says_what(run_runbook: RunRunbook, stand_in: Callable[..., Program]) -> None:
    stand_in("greet")
    run = run_runbook(greeting, whom="A", ask=True)
    assert run.status == "asks"
    assert "go on with A?" in (run.error or "")
    assert [(step.name, step.status) for step in run.steps][1:] == [("say", "succeeded"), ("may_it", "suspended")]


def test_nothing_of_the_room_around_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path / "the_real_one"))
    monkeypatch.setenv("OPS_TEMPLATES", str(tmp_path))
    run_runbook: RunRunbook = request.getfixturevalue("run_runbook")
    stand_in: Callable[..., Program] = request.getfixturevalue("stand_in")
    program = stand_in("greet", "echo $OPS_HOME")
    run = run_runbook(greeting, whom="A")
    assert run.result["home"] != "the_real_one"
    assert not (tmp_path / "the_real_one").exists()
    assert program.calls == [["A"]]
    assert "OPS_TEMPLATES" not in os.environ
