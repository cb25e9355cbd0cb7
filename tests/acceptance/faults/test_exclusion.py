"""Runs on one Odoo database exclude each other; who holds it is told, and a dead holder blocks nobody."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Cancelling

from opsdb.runs.lookup import short_id
from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.acceptance.faults.runbooks import ALONE_SECONDS
from tests.acceptance.faults.runs import events, shown
from tests.support.waiting import wait_for


def wait_waiting(lab: Lab, run: UUID) -> None:
    """Return when the run says that it waits for another one."""
    wait_for(
        lambda: any("waits for run" in event for event in events(lab, run)), seconds=20, what=f"run {run} waits for one"
    )


def test_runs_on_one_database_follow_each_other_and_others_do_not_wait(lab: Lab, start: Start, hold: Path) -> None:
    first = start("sharing", odoo_db="shop", host="shop", manner="held")
    lab.wait_effect(first, "begin")
    second = start("alone", odoo_db="shop", seconds=ALONE_SECONDS / 2, lane="b")
    other = start("alone", odoo_db="other", seconds=0)
    wait_waiting(lab, second)
    began = time.monotonic()
    assert shown(lab, second)["waits_for"] == [
        f"run {short_id(first)} holds odoo_db shop, and this one begins when that is over: ops show {short_id(first)}"
    ]
    assert shown(lab, first)["waits_for"] == []
    lab.wait_status(other, "succeeded", seconds=60)
    time.sleep(max(0.0, began + ALONE_SECONDS / 2 + 0.5 - time.monotonic()))
    hold.unlink()
    ended = lab.wait_status(first, "succeeded", seconds=90)
    # with the time that it waited it takes longer than it may
    assert lab.wait_status(second, "succeeded", seconds=90)["attempt"] == 1
    assert lab.effects(second)[0].at > lab.effects(first)[-1].at
    assert lab.effects(other)[0].at < lab.effects(first)[-1].at
    assert events(lab, second)[0] == f"waits for run {short_id(first)}, which holds odoo_db shop"
    assert "has odoo_db shop to itself, after" in events(lab, second)[1]
    assert ended["finished_at"] is not None


def test_runs_on_two_databases_of_one_host_follow_each_other_and_a_dead_holder_blocks_neither(
    lab: Lab, start: Start
) -> None:
    first = start("sharing", odoo_db="prod", host="one", seconds=60)
    lab.wait_effect(first, "begin")
    second = start("sharing", odoo_db="staging", host="one", seconds=0, lane="b")
    wait_waiting(lab, second)
    held = f"run {short_id(first)} holds odoo_host one"
    assert shown(lab, second)["waits_for"] == [
        f"{held}, and this one begins when that is over: ops show {short_id(first)}"
    ]
    behind = start("alone", odoo_db="staging")
    wait_waiting(lab, behind)  # the second holds its database meanwhile
    os.kill(lab.run_process(first), signal.SIGKILL)
    lab.wait_status(second, "succeeded", seconds=60)
    lab.wait_status(behind, "succeeded", seconds=40)
    assert lab.run_row(first)["status"] == "failed"
    assert lab.effects(second)[0].at > lab.effects(first)[-1].at
    assert lab.effects(behind)[0].at > lab.effects(second)[-1].at
    assert "has odoo_host one to itself, after" in events(lab, second)[1]


@pytest.mark.promise(5)
def test_dead_holder_blocks_nobody(lab: Lab, start: Start) -> None:
    holder = start("sharing", odoo_db="left", host="left", seconds=60, manner="escaping")
    lab.wait_effect(holder, "begin")
    waiter = start("alone", odoo_db="left", lane="b")
    wait_waiting(lab, waiter)
    os.kill(lab.run_process(holder), signal.SIGKILL)
    lab.wait_status(waiter, "succeeded", seconds=60)
    assert lab.run_row(holder)["status"] == "failed"
    assert lab.effects(waiter)[0].at > lab.effects(holder)[-1].at  # not even what escaped goes on beside it


def test_who_waits_can_be_cancelled_and_lives_beyond_the_limit_for_lost_runs(
    lab: Lab, start: Start, hold: Path, client: SyncPrefectClient
) -> None:
    holder = start("sharing", odoo_db="busy", host="busy", manner="held")
    lab.wait_effect(holder, "begin")
    waiters = [start("alone", odoo_db="busy", lane="b"), start("alone", odoo_db="busy", lane="b")]
    for waiter in waiters:
        wait_waiting(lab, waiter)
    client.set_flow_run_state(waiters[0], Cancelling())
    lab.wait_status(waiters[0], "cancelled", seconds=20)
    assert lab.effects(waiters[0]) == []
    time.sleep(lab.settings.timings.lost + 1)
    hold.unlink()
    lab.wait_status(waiters[1], "succeeded", seconds=60)


def test_who_waits_outlives_the_database_and_its_holder_keeps_its_hold(lab: Lab, start: Start, hold: Path) -> None:
    holder = start("sharing", odoo_db="kept", host="kept", manner="held")
    lab.wait_effect(holder, "begin")
    waiter = start("alone", odoo_db="kept", lane="b")
    wait_waiting(lab, waiter)
    lab.kill_postgres()
    lab.start_postgres()
    time.sleep(2)  # both are there again
    assert lab.effects(waiter) == []
    hold.unlink()
    lab.wait_status(waiter, "succeeded", seconds=60)
    assert lab.effects(waiter)[0].at > lab.effects(holder)[-1].at
