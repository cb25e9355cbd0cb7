"""How a worker ends: its runs end truthfully, or are handed back, and no process is left."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.support.tiers import in_soak


def family(pid: int) -> list[psutil.Process]:
    """A process with all of its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_worker_told_to_end_lets_short_runs_end_and_takes_no_new_ones(lab: Lab, start: Start) -> None:
    run = start("once", seconds=1.5)
    lab.wait_effect(run, "begin")
    processes = family(lab.parts["worker"].pid)
    lab.parts["worker"].send_signal(signal.SIGTERM)
    late = start("once")
    assert lab.parts.pop("worker").wait(60) == 0
    assert_gone(processes)
    assert lab.wait_status(run, "succeeded", seconds=20)["attempt"] == 1
    lab.wait_status(late, "queued")
    lab.start_worker()
    assert lab.wait_status(late, "succeeded", seconds=40)["attempt"] == 1


@pytest.mark.own_worker
@pytest.mark.parametrize("kind", [*in_soak(["once"]), "repeatable"])
def test_worker_told_to_end_stops_long_runs_and_leaves_no_process(lab: Lab, start: Start, kind: str) -> None:
    lab.start_worker(extra={"OPS_DRAIN_SECONDS": "4"})
    run = start(kind, seconds=4, manner="escaping")
    lab.wait_effect(run, "begin")
    processes = family(lab.parts["worker"].pid)
    began = time.monotonic()
    assert lab.kill("worker", signal.SIGTERM) == 0  # gives them a second
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert_gone(processes)
    assert lab.living(run) == []
    if kind == "once":
        row = lab.wait_status(run, "failed", seconds=20)
        assert "stopped from outside" in row["error"]["message"]
        assert row["attempt"] == 1
        return
    lab.start_worker()
    assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2


def test_worker_told_twice_ends_at_once(lab: Lab, start: Start) -> None:
    run = start("once", seconds=60)
    lab.wait_effect(run, "begin")
    worker = lab.parts["worker"]
    processes = family(worker.pid)
    worker.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert worker.poll() is None  # it waits for its run
    again = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert lab.parts.pop("worker").wait(30) == 0
    print(f"ended {time.monotonic() - again:.1f} s after the second signal")
    assert_gone(processes)
    assert lab.living(run) == []
    lab.wait_status(run, "failed", seconds=20)


def test_worker_and_sync_that_stand_idle_end_and_leave_nothing(lab: Lab) -> None:
    for name in ("worker", "sync"):
        processes = family(lab.parts[name].pid)
        assert lab.kill(name, signal.SIGTERM) == 0
        assert_gone(processes)
