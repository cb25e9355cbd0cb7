"""`ops sync` between a real Prefect server and a real PostgreSQL, with the process itself killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Cancelled, Completed, Crashed, Running, Scheduled
from sqlalchemy import Engine, text

from opsdb.settings import Settings
from tests.integration.deployments.sync.following import Syncing, claimed, eventually, statuses, wait_until_alive, walk
from tests.support.tiers import in_soak


def wait_until_heard(client: SyncPrefectClient, engine: Engine, kind: str, deployment_id: UUID) -> None:
    """Return when the first poll is over and Prefect's events arrive."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        eventually(lambda: db.scalar(text("SELECT count(*) FROM ops.sync_marks WHERE name = 'sync'")), 1, 30)
    run = client.create_flow_run_from_deployment(deployment_id)

    def heard() -> bool:
        walk(client, run.id, Scheduled())  # again: the subscription may come up after the poll
        time.sleep(0.2)
        return run.id in statuses(engine, kind)

    eventually(heard, True, 30)


def test_sync_hears_of_a_run_and_its_rewritten_end_long_before_it_polls(
    client: SyncPrefectClient,
    kind: str,
    deployment_id: UUID,
    engine: Engine,
    syncing: Syncing,
) -> None:
    with syncing(OPS_POLL_SECONDS="60"):
        wait_until_heard(client, engine, kind, deployment_id)
        run = client.create_flow_run_from_deployment(
            deployment_id, parameters={"number": 7}, tags=["priority:15", f"session:{uuid4()}"]
        )
        for make_state, status in ((claimed, "claimed"), (Running, "running"), (Completed, "succeeded")):
            walk(client, run.id, make_state())
            eventually(lambda: statuses(engine, kind).get(run.id), status)
        walk(client, run.id, Crashed())
        eventually(lambda: statuses(engine, kind).get(run.id), "failed")
        walk(client, run.id, Scheduled(), claimed(), Running())
        eventually(lambda: statuses(engine, kind).get(run.id), "running")
    with engine.connect() as db:
        row = db.execute(
            text("SELECT lane, priority, attempt, params, error FROM ops.runs WHERE id = :id"), {"id": run.id}
        ).one()
        assert tuple(row) == ("A", 15, 2, {"number": 7}, None)
        told = db.scalars(text("SELECT message FROM ops.run_events WHERE run_id = :id"), {"id": run.id})
        assert list(told) == ["Prefect rewrote Completed to Crashed"]


@pytest.mark.gate
def test_sync_leaves_flows_alone_that_are_no_runbooks(
    client: SyncPrefectClient,
    kind: str,
    deployment_id: UUID,
    engine: Engine,
    syncing: Syncing,
) -> None:
    foreign = client.create_deployment(
        client.create_flow_from_name(kind), "foreign", work_pool_name="lane-a", entrypoint="x.y"
    )
    with syncing():
        wait_until_alive(engine)
        walk(client, client.create_flow_run_from_deployment(foreign).id, Running(), Completed())
        ours = client.create_flow_run_from_deployment(deployment_id)
        eventually(lambda: statuses(engine, kind), {ours.id: "queued"})
        time.sleep(2)  # more than one poll
        assert statuses(engine, kind) == {ours.id: "queued"}


@pytest.mark.gate
def test_sync_delivers_the_journal_of_a_run_process_that_is_gone(
    room: Settings,
    engine: Engine,
    syncing: Syncing,
) -> None:
    script = """
import os
from datetime import datetime, UTC
from uuid import uuid4
from opsdb.record.journal import Journal, journal_dir
from opsdb.record.entries import Event, RunOpened
from opsdb.runs.runs import RunFacts
from opsdb.settings import load_settings
from opsdb.states import State
from opsdb.tables import Lane
run_id, now = uuid4(), datetime.now(UTC)
facts = RunFacts(id=run_id, kind="k", lane=Lane.B, priority=0, session_id=None, params={}, created_at=now)
journal = Journal(journal_dir(load_settings()), run_id)
state = State(id=uuid4(), at=now, type="RUNNING", name="Running")
opened = RunOpened(run_id, facts=facts, states=[state], attempt=1, claimed_by="w", deadline_seconds=60)
journal.append(opened.line())
journal.append(Event(run_id, message="the last words").line())
os.kill(os.getpid(), 9)
"""
    env = {**os.environ, "OPS_HOME": str(room.home), "OPS_DATABASE_URL": room.ops_url}
    assert subprocess.run([sys.executable, "-c", script], env=env, check=False).returncode == -9
    with syncing(), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        eventually(lambda: list(db.scalars(text("SELECT message FROM ops.run_events"))), ["the last words"], 30)
        journals = room.home / "journal"
        eventually(lambda: any(journals.iterdir()), False)  # it goes when all of it is there


@pytest.mark.parametrize("runs", [10, *in_soak([200])])
def test_sync_catches_up_with_the_runs_that_it_did_not_see(
    client: SyncPrefectClient, deployment_id: UUID, engine: Engine, syncing: Syncing, *, runs: int, kind: str
) -> None:
    ends = {"succeeded": Completed, "failed": Crashed, "cancelled": Cancelled}
    with syncing() as process:
        wait_until_alive(engine)
        process.kill()  # SIGKILL: it has no chance to say how far it came
        process.wait()

    def make(number: int) -> tuple[UUID, str]:
        status = list(ends)[number % 3]
        run = client.create_flow_run_from_deployment(deployment_id)
        walk(client, run.id, Running(), ends[status]())
        return run.id, status

    with ThreadPoolExecutor(4) as pool:
        expected = dict(pool.map(make, range(runs)))
    with syncing():
        eventually(lambda: statuses(engine, kind), expected, 240)
    with engine.connect() as db:
        assert (
            db.scalar(text("SELECT count(*) FROM ops.runs WHERE kind = :k AND started_at <= finished_at"), {"k": kind})
            == runs
        )
