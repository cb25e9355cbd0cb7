"""The record is whole again after its keeper was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from tests.acceptance.room.api import TERMINAL, Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

STATUS = {"COMPLETED": "succeeded", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "cancelled"}
LANES = "abcd"


def kill_sync(desk: Desk) -> int | None:
    """End the sync without warning, if it runs."""
    pid = desk.pid_of("sync")
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):  # dead since the last kill, and not started again yet
            os.kill(pid, signal.SIGKILL)
    return pid


def test_runs_made_while_the_sync_was_dead_are_recorded_once_in_their_final_state(
    desk: Desk, api: Api, database: str
) -> None:
    killed = {kill_sync(desk)}
    ids = []
    for number in range(9):  # every third fails
        target = "not_there" if number % 3 == 2 else database
        ids.append(api.start(f"odoo_db_backup/odoo_db_backup-lane-{LANES[number % 4]}", odoo_db=target))
    cancelled = ids[-1]
    api.post(f"/flow_runs/{cancelled}/set_state", state={"type": "CANCELLING"})
    deadline = time.monotonic() + 150  # backups of one database follow each other
    while not all(state in TERMINAL for state in api.states(ids).values()):
        killed.add(kill_sync(desk))  # each time it is back
        time.sleep(0.2)
        assert time.monotonic() < deadline, api.states(ids)
    states = api.states(ids)
    assert set(states) == set(ids)
    assert {"COMPLETED", "FAILED"} <= set(states.values())

    def recorded() -> bool:
        runs = {run["id"]: run["status"] for run in desk.json("runs", "--limit", "500")}
        return {run_id: runs.get(run_id) for run_id in ids} == {run_id: STATUS[states[run_id]] for run_id in ids}

    wait_for(recorded, seconds=150, what="every run is recorded as Prefect has it")
    with desk.database("ops") as db:
        counts = db.execute(
            "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE finished_at IS NULL) "
            "FROM ops.runs WHERE id = ANY(%s::uuid[])",
            [ids],
        ).fetchone()
    assert counts == (len(ids), len(ids), 0)
    wait_for(lambda: desk.ops("status").code == 0, seconds=60, what="the sync is ready again")
    assert desk.pid_of("sync") not in killed
    parts = {part["name"]: part for part in desk.json("status")["parts"]}
    assert parts["sync"]["restarts"] >= 1
    assert parts["sync"]["last_exit"] == -signal.SIGKILL
