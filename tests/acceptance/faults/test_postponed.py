"""Runs that end their process until a time of their own choice: killed, cancelled and forgotten meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate

from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.acceptance.faults.runs import done, in_prefect, ops, shown
from tests.acceptance.faults.test_going_on_cut_off import asking_meets, wait_gone
from tests.support.waiting import wait_for

ASKS = b'"waits until '  # of the state: the run's page says it inside a line


def wait_postponed(lab: Lab, run: UUID) -> None:
    """Return when the run waits, and its process is gone."""
    said = "SELECT 1 AS ok FROM ops.run_states WHERE run_id = %s AND message LIKE 'waits until %%'"
    wait_for(lambda: lab.rows(said, run), seconds=30, what=f"run {run} is postponed")
    wait_gone(lab, run)
    lab.wait_status(run, "queued")


@contextmanager
def one_at_a_time(client: SyncPrefectClient, lab: Lab) -> Iterator[None]:
    """Lane A executes one run at a time."""
    client.update_work_pool("lane-a", WorkPoolUpdate(concurrency_limit=1))
    try:
        yield
    finally:
        client.update_work_pool("lane-a", WorkPoolUpdate(concurrency_limit=lab.settings.lane_limit))


def types(lab: Lab, run: UUID) -> set[str]:
    return {row["type"] for row in lab.rows("SELECT type FROM ops.run_states WHERE run_id = %s", run)}


def test_postponed_run_takes_no_slot_says_what_it_waits_for_and_begins_anew(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    with one_at_a_time(client, lab):
        run = start("postponing", seconds=12)
        wait_postponed(lab, run)
        other = start("once")
        lab.wait_status(other, "succeeded")
        document = shown(lab, run)
        [why] = document["waits_for"]
        assert why.startswith("it waits until ")
        assert why.endswith(" UTC: it is not there yet")
        assert (document["status"], document["postponed"], document["claimed_by"]) == ("queued", True, None)
        assert document["deadline_at"] is None
        assert "waits" in ops(lab, "runs", "--kind", "postponing")
    row = lab.wait_status(run, "succeeded", seconds=40)
    assert (row["attempt"], row["result"]) == (2, {"attempt": 2})
    assert done(lab, run) == ["look/1", "look/2", "take/2"]
    assert not {"FAILED", "CRASHED"} & types(lab, run)


@pytest.mark.own_worker
def test_killed_when_it_was_postponed_it_waits_all_the_same(lab: Lab, start: Start, client: SyncPrefectClient) -> None:
    with asking_meets("answer held", lab, mark=ASKS) as proxy:
        lab.kill("sync")  # the worker has nobody's word but Prefect's for it
        run = start("postponing", seconds=1)
        lab.wait_effect(run, "look")
        process = lab.run_process(run)
        assert proxy.reached.wait(30)
        os.kill(process, signal.SIGKILL)
        entry = lab.settings.home / "running" / f"{run}.json"
        wait_for(lambda: not entry.exists(), seconds=60, what="the worker has closed it")
    lab.start_worker()
    lab.start("sync")
    row = lab.wait_status(run, "succeeded", seconds=40)
    assert (row["attempt"], done(lab, run)) == (2, ["look/1", "look/2", "take/2"])
    lab.wait_for_verdicts()
    assert not {"FAILED", "CRASHED"} & types(lab, run)


@pytest.mark.own_worker
def test_killed_before_it_was_postponed_it_is_tried_again(lab: Lab, start: Start, client: SyncPrefectClient) -> None:
    with asking_meets("request held", lab, mark=ASKS) as proxy:
        run = start("postponing", times=2, seconds=1)
        lab.wait_effect(run, "look")
        process = lab.run_process(run)
        assert proxy.reached.wait(30)
        os.kill(process, signal.SIGKILL)
        row = lab.wait_status(run, "succeeded", seconds=60)
    assert (row["attempt"], done(lab, run)) == (3, ["look/1", "look/2", "look/3", "take/3"])
    assert "CRASHED" in types(lab, run)


@pytest.mark.own_worker
def test_answer_that_is_lost_postpones_it_once(lab: Lab, start: Start, client: SyncPrefectClient) -> None:
    with asking_meets("answer lost", lab, mark=ASKS) as proxy:
        run = start("postponing", seconds=3)
        assert proxy.reached.wait(30)
        assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2
    assert in_prefect(client, run).count("Running") == 2


def test_postponed_run_is_cancelled_at_once_and_begins_no_more(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    run = start("postponing", seconds=8)
    wait_postponed(lab, run)
    before = time.monotonic()
    ops(lab, "cancel", str(run), "--wait")
    assert lab.wait_status(run, "cancelled", seconds=5)["attempt"] == 2
    assert time.monotonic() - before < 10
    later = start("postponing", seconds=8)  # whose time comes after that of the cancelled one
    lab.wait_status(later, "succeeded", seconds=60)
    assert done(lab, run) == ["look/1"]
    assert in_prefect(client, run)[-1] == "Cancelled"


@pytest.mark.own_worker
def test_cancelled_while_it_asks_it_is_cancelled(lab: Lab, start: Start, client: SyncPrefectClient) -> None:
    with asking_meets("request held", lab, mark=ASKS) as proxy:
        run = start("postponing", seconds=1)
        lab.wait_effect(run, "look")
        assert proxy.reached.wait(30)
        ops(lab, "cancel", str(run))
        proxy.go_on.set()
        lab.wait_status(run, "cancelled", seconds=20)
        later = start("postponing", seconds=1)
        lab.wait_status(later, "succeeded", seconds=60)
    assert done(lab, run) == ["look/1"]
    assert in_prefect(client, run)[-1] == "Cancelled"


def test_without_a_worker_it_is_late_and_taken_up_by_the_next_one(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    run = start("postponing", seconds=3)
    wait_postponed(lab, run)
    lab.kill("worker")
    wait_for(lambda: in_prefect(client, run)[-1] == "Late", seconds=60, what="Prefect marks it as late")
    wait_for(lambda: not shown(lab, run)["postponed"], seconds=10, what="the room knows it")
    lab.start_worker()
    assert lab.wait_status(run, "succeeded", seconds=40)["attempt"] == 2
