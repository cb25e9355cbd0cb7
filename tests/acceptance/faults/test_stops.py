"""Cases 2 and 3: what is stopped (SIGSTOP) is declared dead, and has no effect when it goes on."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType

from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab, children
from tests.acceptance.faults.proxy import Proxy
from tests.support.tiers import in_soak
from tests.support.waiting import stopped, wait_for


def pipes(pid: int) -> int:
    """How many ends of pipes a process has open."""
    found = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            found += str(file.readlink()).startswith("pipe:")
    return found


@pytest.mark.parametrize("killed", [*in_soak([True]), False])
def test_worker_stopped_while_a_run_is_pending(
    lab: Lab, start: Start, client: SyncPrefectClient, *, killed: bool
) -> None:
    # case 2
    worker = lab.parts["worker"].pid
    held = [worker, *children(worker)]
    idle = pipes(worker)
    with stopped(children(worker)):  # the fork server: the run cannot start
        run = start("once", seconds=1)
        wait_for(lambda: client.read_flow_run(run).state_type is StateType.PENDING, seconds=20, what="it is Pending")
        wait_for(lambda: lab.run_row(run).get("claimed_by"), seconds=20, what="the claim is written")
        wait_for(lambda: pipes(worker) > idle, seconds=20, what="the fork server is asked for its process")
        time.sleep(0.5)
        os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
        row = lab.wait_status(run, "failed", seconds=lab.settings.timings.claim + 15)
        assert row["claimed_by"].endswith(f"-{worker}")
        assert row["started_at"] is None
        print(f"found after {time.monotonic() - began:.1f} s")
        assert row["error"]["type"] == "ClaimTimeout"
        wait_for(lambda: client.read_flow_run(run).state_type is StateType.CRASHED, seconds=20, what="Prefect knows")
        if killed:
            for pid in held:
                os.kill(pid, signal.SIGKILL)
    if killed:
        lab.parts.pop("worker").wait(5)
        lab.start_worker()
        # it never started, so it is started again
        assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2
        assert [e.what for e in lab.effects(run) if e.what != "tick"] == ["first", "begin", "end", "last"]
    else:  # its process starts now, tells Prefect so, and finds itself fenced before its first step
        entry = lab.settings.home / "running" / f"{run}.json"
        wait_for(entry.exists, seconds=30, what="its process has begun")
        wait_for(lambda: not lab.living(run), seconds=30, what="it ended")
        os.kill(worker, signal.SIGCONT)  # only now: it would kill one that did not say yet that it began, and try again
        wait_for(lambda: not entry.exists(), seconds=30, what="its worker knows that it ended")
        lab.wait_for_verdicts()
        # nothing of it ran: that its process said Running after the verdict changes nothing
        assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2
    assert {e.attempt for e in lab.effects(run)} == {2}


@pytest.mark.own_worker
def test_claim_that_never_reached_the_database_is_begun_anew(lab: Lab, start: Start, client: SyncPrefectClient) -> None:
    # a worker that dies between its two words, to Prefect and to the database: Prefect's state says who it was
    with Proxy(lab.folder / "proxy", lab.socket) as proxy:
        lab.start_worker(extra={"OPS_DATABASE_URL": f"postgresql://postgres@/ops?host={proxy.folder}"})
        proxy.refuse()
        worker = lab.parts["worker"].pid
        held = [worker, *children(worker)]
        with stopped(children(worker)):
            run = start("once", seconds=1)
            wait_for(
                lambda: client.read_flow_run(run).state_type is StateType.PENDING, seconds=20, what="it is Pending"
            )
            for pid in held:
                os.kill(pid, signal.SIGKILL)
    lab.parts.pop("worker").wait(5)
    wait_for(lambda: str(lab.run_row(run).get("claimed_by")).endswith(f"-{worker}"), seconds=20, what="it is known")
    lab.start_worker()
    assert lab.wait_status(run, "succeeded", seconds=60)["attempt"] == 2
    assert {e.attempt for e in lab.effects(run)} == {2}


@pytest.mark.parametrize("kind", [*in_soak(["once"]), "repeatable"])
def test_run_process_stopped_is_fenced_and_leaves_no_effect_after_its_rescue(lab: Lab, start: Start, kind: str) -> None:
    # case 3, for longer than a run may be silent
    lost = lab.settings.timings.lost
    run = start(kind, seconds=2)
    lab.wait_effect(run, "begin")
    with stopped([lab.run_process(run)]):
        since = time.monotonic()
        row = lab.wait_status(run, "failed", "queued", "claimed", seconds=lost + 15)
        print(f"found after {time.monotonic() - since:.1f} s")
        time.sleep(max(0.0, since + lost + 2 - time.monotonic()))
    fenced = lab.rows(
        "SELECT recorded_at FROM ops.run_states WHERE run_id = %s AND source = 'room' AND name = 'HeartbeatTimeout'",
        run,
    )[0]["recorded_at"].timestamp()
    if kind == "once":
        assert row["error"]["type"] == "HeartbeatTimeout"
    else:
        row = lab.wait_status(run, "succeeded", seconds=40)
        assert row["attempt"] == 2
    assert max(e.at for e in lab.effects(run) if e.attempt == 1) < fenced
    wait_for(lambda: not lab.living(run), seconds=20, what="nothing of it is alive")


def test_run_process_stopped_without_a_worker_finds_itself_fenced(lab: Lab, start: Start) -> None:
    run = start("once", seconds=60, manner="quiet")
    lab.wait_effect(run, "begin")
    lab.kill("worker")
    with stopped([lab.run_process(run)]):
        lab.wait_status(run, "failed", seconds=lab.settings.timings.lost + 15)
    continued = time.monotonic()
    wait_for(lambda: not lab.living(run), seconds=20, what="it killed its step and ended")
    print(f"it ended {time.monotonic() - continued:.1f} s after it went on")
    assert "last" not in [e.what for e in lab.effects(run)]
    assert "end" not in [e.what for e in lab.effects(run)]
    time.sleep(2)  # its journal is delivered by now: it has not said a word since
    assert lab.rows("SELECT 1 FROM ops.run_states WHERE run_id = %s AND type = 'FAILED'", run) == []
    row = lab.run_row(run)
    assert (row["outcome"], row["error"]["type"]) == (None, "HeartbeatTimeout")


def test_run_past_its_deadline_is_ended(lab: Lab, start: Start) -> None:
    run = start("hasty", seconds=60)
    lab.wait_effect(run, "begin")
    row = lab.wait_status(run, "failed", seconds=30)
    assert row["error"]["type"] == "DeadlineExceeded"
    wait_for(lambda: not lab.living(run), seconds=20, what="nothing of it is alive")
