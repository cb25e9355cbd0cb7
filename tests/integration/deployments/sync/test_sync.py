"""`ops sync` between a real Prefect server and a real PostgreSQL, with the process itself killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled, Completed, Crashed, Pending, Running, Scheduled
from pydantic import SecretStr
from sqlalchemy import Engine, text

from deployments.server import access
from opsdb.database import connect
from opsdb.settings import Settings
from tests.support.children import child
from tests.support.tiers import in_soak

Syncing = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


@pytest.fixture
def room(settings: Settings, prefect_room: Settings) -> Settings:
    """The running Prefect server with an ops database of this test alone."""
    return prefect_room.model_copy(update={"database_url": SecretStr(settings.ops_url)})


@pytest.fixture
def kind() -> str:
    """The name of a flow of this test alone: the server is shared. It is never executed, its states are set."""
    return f"kind-{uuid4()}"


@pytest.fixture
def deployment_id(client: SyncPrefectClient, kind: str) -> UUID:
    """A runbook in lane A."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    flow_id = client.create_flow_from_name(kind)
    return client.create_deployment(flow_id, "lane-a", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"])


@pytest.fixture
def engine(room: Settings) -> Iterator[Engine]:
    engine = connect(room, application="test")
    yield engine
    engine.dispose()


@pytest.fixture
def syncing(room: Settings, tmp_path: Path) -> Syncing:
    """Start `ops sync` as the room does; settings are keywords."""
    env = access.inherited(os.environ) | {
        "OPS_HOME": str(room.home),
        "OPS_DATABASE_URL": room.ops_url,
        "OPS_PREFECT_PORT": str(room.prefect_port),
    }
    argv = [sys.executable, "-m", "cli", "sync"]
    return lambda **settings: child(argv, env | settings, tmp_path / "sync.log")


def walk(client: SyncPrefectClient, run_id: UUID, *states: State[Any]) -> None:
    for state in states:
        client.set_flow_run_state(run_id, state, force=True)


def statuses(engine: Engine, kind: str) -> dict[UUID, str]:
    with engine.connect() as db:
        rows = db.execute(text("SELECT id, status FROM ops.runs WHERE kind = :kind"), {"kind": kind})
        return {row.id: row.status for row in rows}


def events(engine: Engine, run_id: UUID) -> list[str]:
    with engine.connect() as db:
        query = text("SELECT message FROM ops.run_events WHERE run_id = :id ORDER BY created_at")
        return list(db.scalars(query, {"id": run_id}))


def eventually(question: Callable[[], object], expected: object, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while (answer := question()) != expected:
        assert time.monotonic() < deadline, f"got {str(answer)[:300]}, want {str(expected)[:300]}"
        time.sleep(0.05)


def wait_until_alive(engine: Engine) -> None:
    query = text("SELECT EXISTS (SELECT FROM ops.sync_marks WHERE updated_at > clock_timestamp() - interval '2 s')")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        eventually(lambda: db.scalar(query), True, 60)


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
        for make_state, status in ((Pending, "claimed"), (Running, "running"), (Completed, "succeeded")):
            walk(client, run.id, make_state())
            eventually(lambda: statuses(engine, kind).get(run.id), status)
        walk(client, run.id, Crashed())
        eventually(lambda: statuses(engine, kind).get(run.id), "failed")
        walk(client, run.id, Scheduled(), Pending(), Running())
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


def test_sync_cancels_a_waiting_run_that_was_deleted_in_prefect(
    client: SyncPrefectClient,
    kind: str,
    deployment_id: UUID,
    engine: Engine,
    syncing: Syncing,
) -> None:
    run = client.create_flow_run_from_deployment(deployment_id)
    with syncing():
        eventually(lambda: statuses(engine, kind), {run.id: "queued"}, 30)
    client.delete_flow_run(run.id)
    with syncing():
        eventually(lambda: statuses(engine, kind), {run.id: "cancelled"}, 30)
    with engine.connect() as db:
        assert db.scalar(text("SELECT error->>'type' FROM ops.runs WHERE kind = :k"), {"k": kind}) == "Deleted"
    assert events(engine, run.id) == ["deleted in Prefect while it waited"]


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
