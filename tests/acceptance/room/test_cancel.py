"""A cancelled step leaves no process, whatever it tries."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk, processes_with
from tests.support.waiting import wait_for

# The shell ignores TERM; one child left its session by a double fork, one cleared its environment as well.
STUBBORN = (
    "trap '' TERM HUP INT",
    "setsid bash -c 'trap \"\" TERM; (setsid sleep {mark}1 & ) ; sleep {mark}2' &",
    "env -i setsid sleep {mark}3 &",
    "nohup sleep {mark}4 &",
    "sleep {mark}5",
)
CANCEL_SECONDS = 10.0


@pytest.fixture
def mark() -> Iterator[str]:
    """A number of seconds that no other process sleeps. What a failed test leaves of them is killed by pid."""
    number = str(900_000 + time.monotonic_ns() % 90_000)
    yield number
    for pid in sleeping(number):
        os.kill(pid, signal.SIGKILL)


def start(desk: Desk, store: Callable[..., str], mark: str) -> str:
    """Start the stubborn command and wait until all of it runs. Returns the run's id."""
    block = store("stubborn", *(line.format(mark=mark) for line in STUBBORN))
    run = json.loads(desk.ops("run", "stored_command", "-p", f"block={block}", "--json").fine())
    wait_for(lambda: len(sleeping(mark)) == 5, seconds=30, what="the whole step runs")
    return str(run["id"])


def sleeping(mark: str) -> dict[int, str]:
    return {pid: line for pid, line in processes_with(f"sleep\0{mark}").items() if line.startswith("sleep")}


@pytest.mark.promise(2)
def test_cancelling_a_running_step_leaves_no_process(desk: Desk, store: Callable[..., str], mark: str) -> None:
    run_id = start(desk, store, mark)
    assert len(processes_with(f"OPS_RUN_ID={run_id}")) >= 4
    desk.ops("cancel", run_id, "--wait").fine()
    assert sleeping(mark) == {}
    assert processes_with(f"OPS_RUN_ID={run_id}") == {}
    shown = desk.json("show", run_id)
    at = {state["name"]: datetime.fromisoformat(state["at"]) for state in shown["states"]}
    assert at["Cancelled"] - at["Cancelling"] < timedelta(seconds=CANCEL_SECONDS)  # said when all is gone
    assert shown["status"] == "cancelled"
    assert [step["status"] for step in shown["steps"]] == ["succeeded", "cancelled"]
    assert f"cancelled by {desk.env.get('USER', 'root')}" in " ".join(
        state["message"] or "" for state in shown["states"]
    )
    assert "nothing to cancel" in desk.ops("cancel", run_id).refused(2)


def test_run_that_waits_is_cancelled_before_anything_of_it_ran(
    desk: Desk, api: Api, store: Callable[..., str], mark: str
) -> None:
    block = store("marker", f"sleep {mark}9")
    ids = [
        api.start("stored_command/stored_command-lane-d", block=block) for _ in range(3)
    ]  # a lane executes three at once
    wait_for(lambda: len(sleeping(mark)) == 3, seconds=20, what="the lane is full")
    waiting = api.start("stored_command/stored_command-lane-d", block=block)
    wait_for(lambda: desk.ops("show", waiting).code == 0, seconds=10, what="the fourth is recorded")
    assert "Nothing of it was running" in desk.ops("cancel", waiting).fine()
    for run_id in ids:
        api.post(f"/flow_runs/{run_id}/set_state", state={"type": "CANCELLING"})  # as the UI does
    wait_for(lambda: not sleeping(mark), seconds=CANCEL_SECONDS, what="all are gone")

    def over() -> bool:
        statuses = {run["id"]: run["status"] for run in desk.json("runs", "--lane", "D")}
        return {statuses[run_id] for run_id in [*ids, waiting]} == {"cancelled"}

    wait_for(over, seconds=CANCEL_SECONDS, what="all are cancelled")
    assert desk.json("show", waiting)["steps"] == []
