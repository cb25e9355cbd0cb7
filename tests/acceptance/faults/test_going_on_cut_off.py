"""Runs that are killed, frozen, told to stop or cut off in the very moment in which they ask for an approval."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType

from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.acceptance.faults.proxy import Proxy
from tests.acceptance.faults.request_proxy import Fate, RequestProxy
from tests.acceptance.faults.runs import AFTER, BEFORE, done, failing, in_prefect, ops, steps, wait_asking
from tests.support.tiers import in_soak
from tests.support.waiting import stopped, wait_for

pytestmark = pytest.mark.own_worker


@contextmanager
def asking_meets(
    fate: Fate, lab: Lab, database: Proxy | None = None, *, mark: bytes = b"waits for approval"
) -> Iterator[RequestProxy]:
    """A worker whose first run that asks for that meets this fate on its way to Prefect."""
    with RequestProxy(lab.settings.prefect_port, mark=mark, fate=fate) as proxy:
        extra = {"OPS_PREFECT_PORT": str(proxy.port)}
        lab.start_worker(extra=extra | (through(database) if database else {}))
        try:
            yield proxy
        finally:  # it knows no other way to Prefect
            if "worker" in lab.parts:
                lab.kill("worker")


def through(database: Proxy) -> dict[str, str]:
    return {"OPS_DATABASE_URL": f"postgresql://postgres@/ops?host={database.folder}"}


def asked(proxy: RequestProxy, lab: Lab, run: UUID) -> int:
    """The pid of the run's process, as soon as what it asks has met its fate."""
    lab.wait_effect(run, "build")
    process = lab.run_process(run)
    assert proxy.reached.wait(30), "it asks nothing"
    return process


def wait_gone(lab: Lab, run: UUID) -> None:
    wait_for(lambda: not lab.living(run), seconds=60, what=f"run {run} has no process")


def approve_and_see_the_rest_done(lab: Lab, run: UUID) -> None:
    wait_asking(lab, run)
    ops(lab, "approve", str(run))
    assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2
    assert done(lab, run) == AFTER


@pytest.mark.parametrize("also_gone", ["sync", *in_soak(["worker"])])
def test_killed_between_its_suspension_and_its_end_it_waits_all_the_same(
    lab: Lab, start: Start, client: SyncPrefectClient, also_gone: str
) -> None:
    with asking_meets("answer held", lab) as proxy:
        if also_gone == "sync":
            lab.kill("sync")  # the worker has nobody's word but Prefect's for it
        run = start("asking", odoo_db=f"killed-{also_gone}")
        os.kill(asked(proxy, lab, run), signal.SIGKILL)
        if also_gone == "sync":
            entry = lab.settings.home / "running" / f"{run}.json"
            wait_for(lambda: not entry.exists(), seconds=60, what="the worker has closed it")
        lab.kill("worker")
    lab.start_worker()
    if also_gone == "sync":
        lab.start("sync")
    lab.wait_status(run, "queued", seconds=20)
    lab.wait_for_verdicts()
    assert in_prefect(client, run)[-1] == "Suspended"
    assert not {"FAILED", "CRASHED"} & {
        row["type"] for row in lab.rows("SELECT type FROM ops.run_states WHERE run_id = %s", run)
    }
    approve_and_see_the_rest_done(lab, run)


def test_frozen_as_it_asks_and_judged_it_asks_nobody_when_it_goes_on(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    with Proxy(lab.folder / "proxy", lab.socket) as database, asking_meets("request held", lab, database) as proxy:
        run = start("wondering")  # `asking` would end by itself: nobody may do the same meanwhile
        process = asked(proxy, lab, run)
        lab.kill("worker")  # it would end what is frozen
        database.swallow()  # so it has Prefect's word only
        with stopped([process]):
            assert lab.wait_status(run, "failed", seconds=40)["error"]["type"] == "HeartbeatTimeout"
            wait_for(lambda: in_prefect(client, run)[-1] == "HeartbeatTimeout", seconds=30, what="Prefect knows it")
            proxy.go_on.set()
            time.sleep(1)
        wait_gone(lab, run)
    lab.start_worker()
    time.sleep(2)  # its journal is delivered by now: it has not said a word since
    row = lab.run_row(run)
    assert (row["status"], row["outcome"], row["error"]["type"]) == ("failed", None, "HeartbeatTimeout")
    assert in_prefect(client, run)[-1] == "HeartbeatTimeout"
    assert done(lab, run) == ["build/1"]
    wait_for(lambda: lab.run_row(run)["reaped_at"], seconds=30, what="its processes are known to be gone")
    ops(lab, "retry", str(run), "--from-failed")
    wait_for(lambda: steps(lab, run).get(2, {}).get("ask") == "suspended", seconds=30, what="it asks once more")
    wait_asking(lab, run)
    ops(lab, "approve", str(run))
    lab.wait_status(run, "succeeded", seconds=40)
    assert done(lab, run) == ["build/1", "deploy/3"]


def test_frozen_when_it_was_suspended_it_is_not_judged_and_does_nothing_when_it_goes_on(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    with asking_meets("answer held", lab) as proxy:
        run = start("asking", odoo_db="frozen-later")
        process = asked(proxy, lab, run)
        lab.kill("worker")
        with stopped([process]):
            time.sleep(lab.settings.timings.lost + 2)
            assert (lab.run_row(run)["status"], lab.run_row(run)["fenced_at"]) == ("queued", None)
            ops(lab, "approve", str(run))
            proxy.go_on.set()
            time.sleep(1)
        wait_gone(lab, run)
    assert in_prefect(client, run)[-2:] == ["Suspended", "Resuming"]
    lab.start_worker()
    assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2
    assert done(lab, run) == AFTER


def test_run_asks_only_when_its_record_is_in_the_database(
    lab: Lab, start: Start, client: SyncPrefectClient, tmp_path: Path
) -> None:
    hang = failing(tmp_path / "stop", "hang.build")
    with Proxy(lab.folder / "proxy", lab.socket) as database:
        lab.start_worker(extra=through(database))
        run = start("asking", odoo_db="unrecorded", fail_at=str(tmp_path / "stop"))
        wait_for(lambda: steps(lab, run).get(1, {}).get("build") == "running", seconds=30, what="it builds")
        database.refuse()
        hang.unlink()
        time.sleep(lab.settings.timings.lost / 3)  # less than a run may be silent
        assert client.read_flow_run(run).state_type is StateType.RUNNING
        assert steps(lab, run)[1].get("build") == "running"
        database.listen()
        approve_and_see_the_rest_done(lab, run)
        lab.kill("worker")


@pytest.mark.parametrize("worker", [*in_soak(["the same"]), "another"])
def test_approved_before_its_suspension_is_recorded_it_goes_on(
    lab: Lab, start: Start, client: SyncPrefectClient, worker: str
) -> None:
    with Proxy(lab.folder / "proxy", lab.socket) as database, asking_meets("request held", lab, database) as proxy:
        run = start("asking", odoo_db=f"unrecorded-{worker}")
        asked(proxy, lab, run)
        database.refuse()
        proxy.go_on.set()
        wait_gone(lab, run)
        lab.wait_status(run, "queued")  # the sync has it from Prefect
        if worker == "another":
            lab.kill("worker")
        ops(lab, "approve", str(run))
        if worker == "another":
            lab.start_worker()
        else:
            wait_for(lambda: in_prefect(client, run)[-1] == "Running", seconds=30, what="it has a process again")
            time.sleep(2)
            assert done(lab, run) == BEFORE
            database.listen()
        assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2
        assert done(lab, run) == AFTER


def test_told_to_stop_when_its_suspension_was_taken_up_it_stays_suspended(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    with asking_meets("answer held", lab) as proxy:
        lab.kill("sync")  # else the process would hear from the database that its attempt is over
        run = start("asking", odoo_db="told")
        asked(proxy, lab, run)
        worker = lab.parts.pop("worker")
        worker.send_signal(signal.SIGTERM)
        time.sleep(1)
        worker.send_signal(signal.SIGTERM)  # at once
        time.sleep(1)
        proxy.go_on.set()
        assert worker.wait(30) == 0
        wait_gone(lab, run)
    lab.start("sync")
    lab.start_worker()
    assert in_prefect(client, run)[-1] == "Suspended"
    approve_and_see_the_rest_done(lab, run)
