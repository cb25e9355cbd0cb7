"""Cases 4, 5 and 9: PostgreSQL or Prefect away, or cut off, while runs run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType

from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab, children
from tests.acceptance.faults.proxy import Proxy
from tests.support.foreign_listener import foreign_listener
from tests.support.programs import needs_root
from tests.support.waiting import stopped, wait_for

WHOLE = ["first", "begin", "end", "last"]


def deeds(lab: Lab, run: UUID) -> list[str]:
    return [e.what for e in lab.effects(run) if e.what != "tick"]


@pytest.mark.promise(6)
def test_database_killed_as_a_step_ends(lab: Lab, start: Start, client: SyncPrefectClient, hold: Path) -> None:
    # case 4, for longer than a run may be silent, which the case's 25 s are not; ops and Prefect lose the same server
    crossing = start("once", manner="held")
    lab.wait_effect(crossing, "begin")
    run = start("once", seconds=2)
    lab.wait_effect(run, "begin")
    time.sleep(1)
    lab.kill_postgres()
    time.sleep(lab.settings.timings.lost + 1)
    lab.start_postgres()
    back = time.monotonic()
    row = lab.wait_status(run, "succeeded", seconds=30)
    wait_for(lambda: client.read_flow_run(run).state_type is StateType.COMPLETED, seconds=30, what="Prefect agrees")
    print(f"both agree {time.monotonic() - back:.1f} s after the database is back")
    assert time.monotonic() - back < 30
    assert row["attempt"] == 1
    hold.unlink()
    lab.wait_status(crossing, "succeeded", seconds=40)
    assert deeds(lab, run) == deeds(lab, crossing) == WHOLE
    steps = lab.rows("SELECT DISTINCT status FROM ops.run_steps WHERE run_id IN (%s, %s)", run, crossing)
    assert steps == [{"status": "succeeded"}]
    assert lab.rows("SELECT 1 FROM ops.runs WHERE id IN (%s, %s) AND fenced_at IS NOT NULL", run, crossing) == []


def test_prefect_killed_as_a_step_ends(lab: Lab, start: Start, client: SyncPrefectClient, hold: Path) -> None:
    # case 4: for longer than anybody waits for Prefect, or for a run that is silent
    crossing = start("once", manner="held")
    lab.wait_effect(crossing, "begin")
    run = start("once", seconds=2)
    lab.wait_effect(run, "begin")
    lab.kill("prefect")
    away = time.monotonic()
    lab.wait_effect(run, "last")
    row = lab.wait_status(run, "succeeded", seconds=20)  # the room knows it from the run itself
    time.sleep(max(0.0, away + lab.settings.timings.report + 2 - time.monotonic()))
    lab.start_prefect()
    back = time.monotonic()
    wait_for(lambda: client.read_flow_run(run).state_type is StateType.COMPLETED, seconds=30, what="Prefect agrees")
    print(f"both agree {time.monotonic() - back:.1f} s after Prefect is back")
    assert row["attempt"] == 1
    hold.unlink()
    lab.wait_status(crossing, "succeeded", seconds=60)
    again = start("once")
    lab.wait_status(again, "succeeded", seconds=30)  # the worker has come back too
    assert deeds(lab, run) == deeds(lab, crossing) == WHOLE
    assert lab.run_row(run)["status"] == "succeeded"


@pytest.mark.own_worker
def test_worker_cut_off_from_the_database(lab: Lab, start: Start, hold: Path) -> None:
    # case 5: for twice as long as a run may be silent
    lost = lab.settings.timings.lost
    with Proxy(lab.folder / "proxy", lab.socket) as proxy:
        lab.start_worker(extra={"OPS_DATABASE_URL": f"postgresql://postgres@/ops?host={proxy.folder}"})
        repeatable, once = start("repeatable", manner="held"), start("once", seconds=60)
        lab.wait_effect(repeatable, "begin")
        lab.wait_effect(once, "begin")
        proxy.swallow()
        cut = time.time()
        lab.wait_status(repeatable, "failed", "queued", seconds=lost + 20)
        last_effect = max(e.at for e in lab.effects(repeatable))
        fences = lab.rows("SELECT fenced_at FROM ops.runs WHERE id = %s AND fenced_at IS NOT NULL", repeatable)
        print(f"stopped {last_effect - cut:.1f} s after the cut; fenced: {fences}")
        assert last_effect < cut + lost  # before the sweeper declared it dead
        lab.wait_status(once, "failed", seconds=20)
        declared = time.time()
        time.sleep(max(0.0, cut + 2 * lost - time.time()))
        assert max(e.at for e in lab.effects(once)) > declared  # it goes on, and does not know
        assert {e.attempt for e in lab.effects(repeatable)} == {1}  # a worker that is cut off begins nothing
        hold.unlink()
        proxy.forward()
        wait_for(lambda: not lab.living(once), seconds=30, what="it finds on return that it was fenced")
        row = lab.wait_status(repeatable, "succeeded", seconds=60)
        assert row["attempt"] >= 2
        ends = {n: max(e.at for e in lab.effects(repeatable) if e.attempt == n) for n in (1, row["attempt"])}
        assert ends[1] < min(e.at for e in lab.effects(repeatable) if e.attempt > 1)
        assert "end" not in deeds(lab, once)
        lab.kill("worker")


@pytest.mark.promise(10)
def test_pauses_of_the_database_raise_no_stuck_run(lab: Lab, start: Start, hold: Path) -> None:
    # case 9: three pauses, for half as long as a run may be silent, and one for longer
    lost = lab.settings.timings.lost
    run = start("once", manner="held")
    lab.wait_effect(run, "begin")
    for seconds in (lost / 2, lost + 1, lost / 2):
        postmaster = lab.parts["postgres"].pid
        with stopped([postmaster, *children(postmaster)]):
            time.sleep(seconds)
        time.sleep(1)
    hold.unlink()
    lab.wait_status(run, "succeeded", seconds=60)
    assert deeds(lab, run) == WHOLE
    assert lab.rows("SELECT message, data FROM ops.run_events WHERE run_id = %s AND level <> 'info'", run) == []
    assert lab.run_row(run)["fenced_at"] is None


@pytest.mark.own_worker
def test_database_away_for_the_whole_run_loses_nothing(lab: Lab, start: Start) -> None:
    # the worker and its run reach Prefect, and never the ops database
    with Proxy(lab.folder / "proxy", lab.socket) as proxy:
        lab.start_worker(extra={"OPS_DATABASE_URL": f"postgresql://postgres@/ops?host={proxy.folder}"})
        proxy.refuse()
        run = start("once", seconds=1)
        lab.wait_status(run, "succeeded", seconds=30)
        query = "SELECT name, status FROM ops.run_steps WHERE run_id = %s ORDER BY index"
        three = ["succeeded"] * 3
        wait_for(
            lambda: [row["status"] for row in lab.rows(query, run)] == three, seconds=20, what="its journal is there"
        )
        assert lab.run_row(run)["result"] == {"ledger": "ledger"}
        lab.kill("worker")


def test_sweeps_wait_for_no_answer_of_prefect(lab: Lab, start: Start, hold: Path) -> None:
    first, second = start("once", manner="held"), start("once", manner="held")
    for run in (first, second):
        lab.wait_effect(run, "begin")
    lab.kill("prefect")  # its port still takes requests
    for run in (first, second):  # the verdict on the first one waits for Prefect by then
        os.kill(lab.run_process(run), signal.SIGKILL)
        lab.wait_status(run, "failed", seconds=lab.settings.timings.lost + 5)


@needs_root
def test_another_user_who_takes_the_port_of_a_killed_room_hears_nothing(
    lab: Lab, start: Start, client: SyncPrefectClient, hold: Path, tmp_path: Path
) -> None:
    run = start("once", manner="held")
    lab.wait_effect(run, "begin")
    read = {name: lab.log(name).stat().st_size for name in ("worker", "sync")}

    def tried(name: str) -> bool:
        return b"All connection attempts failed" in lab.log(name).read_bytes()[read[name] :]

    with lab.port_lost(), foreign_listener(lab.settings.prefect_port, tmp_path / "heard") as foreign:
        foreign.wait_until("listening")
        read = {name: lab.log(name).stat().st_size for name in read}
        hold.unlink()
        lab.wait_effect(run, "last")
        lab.wait_status(run, "succeeded")  # its process then wants to tell Prefect
        wait_for(lambda: tried("worker") and tried("sync"), seconds=30, what="worker and sync want to ask Prefect")
        assert foreign.heard == []
    lab.start_prefect()
    wait_for(lambda: client.read_flow_run(run).state_type is StateType.COMPLETED, seconds=60, what="Prefect agrees")
