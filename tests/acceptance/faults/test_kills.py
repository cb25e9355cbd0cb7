"""Case 1: what is killed leaves at most one effect, nothing alive, and a free slot in its lane."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from uuid import UUID

import pytest

from opsdb.processes.find import find_processes
from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab, children
from tests.support.tiers import in_soak
from tests.support.waiting import wait_for


def found_seconds(lab: Lab) -> float:
    """How long after its death a run is found at most."""
    return lab.settings.timings.lost + 8


def assert_ended_for_good(lab: Lab, run: UUID) -> None:
    """Nothing of the run is alive 10 s after its terminal status, and nothing of it had an effect after that."""
    finished = lab.rows("SELECT updated_at FROM ops.runs WHERE id = %s", run)[0]["updated_at"].timestamp()
    wait_for(lambda: not lab.living(run), seconds=max(0.1, finished + 10 - time.time()), what="all of it is gone")
    before = len(lab.effects(run))
    time.sleep(0.6)
    assert len(lab.effects(run)) == before


def test_run_that_nothing_disturbs_succeeds(lab: Lab, start: Start) -> None:
    run = start("once", seconds=0.4)
    row = lab.wait_status(run, "succeeded")
    assert [e.what for e in lab.effects(run)] == ["first", "begin", "tick", "tick", "end", "last"]
    assert (row["attempt"], row["outcome"], row["fenced_at"]) == (1, "succeeded", None)
    wait_for(lambda: not lab.living(run), seconds=5, what="its process is gone")
    wait_for(lambda: not list((lab.settings.home / "running").iterdir()), seconds=5, what="no entry is left")
    assert list((lab.settings.home / "journal").glob("*.jsonl")) == []


@pytest.mark.parametrize("manner", [*in_soak(["quiet", "printing"]), "stubborn", "escaping"])
def test_run_process_killed_fails_its_run_and_takes_the_step_with_it(lab: Lab, start: Start, manner: str) -> None:
    run = start("once", seconds=60, manner=manner)
    lab.wait_effect(run, "begin")
    os.kill(lab.run_process(run), signal.SIGKILL)
    row = lab.wait_status(run, "failed", seconds=30)
    assert (row["error"]["type"], row["attempt"]) == ("Crashed", 1)
    assert "SIGKILL" in row["error"]["message"]
    assert_ended_for_good(lab, run)
    assert [e.what for e in lab.effects(run) if e.what != "tick"] == ["first", "begin"]


@pytest.mark.promise(4)
def test_run_process_killed_is_tried_again_once_the_first_attempt_is_gone(lab: Lab, start: Start) -> None:
    run = start("repeatable", seconds=lab.settings.timings.grace + 1, manner="stubborn")
    lab.wait_effect(run, "begin")
    os.kill(lab.run_process(run), signal.SIGKILL)
    row = lab.wait_status(run, "succeeded", seconds=40)
    first, second = ([e for e in lab.effects(run) if e.attempt == n] for n in (1, 2))
    assert row["attempt"] == 2
    assert [e.what for e in second if e.what != "tick"] == ["first", "begin", "end", "last"]
    assert max(e.at for e in first) < min(e.at for e in second)


@pytest.mark.parametrize("manner", [*in_soak(["quiet"]), "printing"])
def test_worker_killed_lets_its_run_go_on_to_the_end(lab: Lab, start: Start, manner: str) -> None:
    run = start("once", seconds=2, manner=manner)
    lab.wait_effect(run, "begin")
    lab.kill("worker")
    row = lab.wait_status(run, "succeeded", seconds=40)
    assert row["outcome"] == "succeeded"
    assert_ended_for_good(lab, run)
    assert [e.what for e in lab.effects(run) if e.what != "tick"] == ["first", "begin", "end", "last"]
    lab.start_worker()
    wait_for(lambda: not list((lab.settings.home / "running").iterdir()), seconds=10, what="its entry is removed")
    assert lab.run_row(run)["status"] == "succeeded"
    assert lab.rows("SELECT 1 FROM ops.run_events WHERE run_id = %s AND level = 'error'", run) == []


@pytest.mark.parametrize("shell_too", [True, *in_soak([False])])
@pytest.mark.parametrize("manner", [*in_soak(["ticking"]), pytest.param("escaping", marks=pytest.mark.promise(2))])
def test_worker_and_run_process_killed_is_found_and_cleaned_by_the_next_worker(
    lab: Lab, start: Start, manner: str, *, shell_too: bool
) -> None:
    run = start("once", seconds=90, manner=manner)
    lab.wait_effect(run, "begin")
    lab.kill("worker")
    shells = [process.pid for process in find_processes(run_id=str(run))] if shell_too else []
    os.kill(lab.run_process(run), signal.SIGKILL)
    for pid in shells:
        with suppress(ProcessLookupError):  # it ended with the one before it
            os.kill(pid, signal.SIGKILL)
    died = time.monotonic()
    lab.start_worker()
    row = lab.wait_status(run, "failed", seconds=found_seconds(lab))
    assert row["error"]["type"] == "HeartbeatTimeout"
    print(f"found after {time.monotonic() - died:.1f} s")
    assert_ended_for_good(lab, run)
    again = start("once")
    lab.wait_status(again, "succeeded", seconds=40)


@pytest.mark.promise(3)
def test_host_without_a_worker_is_an_alert_and_its_leftovers_go_when_one_starts(lab: Lab, start: Start) -> None:
    run = start("repeatable", seconds=90)
    lab.wait_effect(run, "begin")
    lab.kill("worker")
    os.kill(lab.run_process(run), signal.SIGKILL)
    row = lab.wait_status(run, "failed", seconds=found_seconds(lab) + 3)
    assert row["error"]["type"] == "HeartbeatTimeout"
    said = lab.rows("SELECT message FROM ops.run_events WHERE run_id = %s AND level = 'error'", run)
    assert "No worker confirmed" in said[0]["message"]
    assert lab.living(run) != []
    assert lab.run_row(run)["attempt"] == 1  # not begun anew beside the living one
    lab.start_worker()
    row = lab.wait_status(run, "running", seconds=40)
    assert row["attempt"] == 2
    lab.wait_effect(run, "tick", attempt=2)
    first, second = ([e.at for e in lab.effects(run) if e.attempt == n] for n in (1, 2))
    assert max(first) < min(second)
    with lab.client() as client:
        from prefect.states import Cancelling

        client.set_flow_run_state(run, Cancelling())
    lab.wait_status(run, "cancelled", seconds=30)


def test_fork_server_killed_lets_its_runs_go_on(lab: Lab, start: Start) -> None:
    run = start("once", seconds=2)
    lab.wait_effect(run, "begin")
    for pid in children(lab.parts["worker"].pid):
        os.kill(pid, signal.SIGKILL)
    lab.wait_status(run, "succeeded", seconds=40)
    assert [e.what for e in lab.effects(run) if e.what != "tick"] == ["first", "begin", "end", "last"]
    again = start("once")
    lab.wait_status(again, "succeeded", seconds=30)
