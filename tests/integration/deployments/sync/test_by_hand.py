"""What somebody does to runs in Prefect, beside a real `ops sync`: deletes, states set by hand, tags taken away."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, tags
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled, Completed, Pending, Running, Scheduled
from sqlalchemy import Engine, text

from opsdb.runs.sessions import make_session
from tests.integration.deployments.sync.following import Syncing, claimed, events, eventually, statuses, walk


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


def queue_of(client: SyncPrefectClient, run_id: UUID) -> tuple[str | None, str | None]:
    run = client.read_flow_run(run_id)
    return run.work_pool_name, run.work_queue_name if run.work_queue_id else None


@pytest.mark.parametrize("deleted", ["queue", "pool"])
def test_waiting_run_gets_its_queue_again_when_that_was_deleted_and_made_again(
    client: SyncPrefectClient, kind: str, engine: Engine, syncing: Syncing, deleted: str
) -> None:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-d", type="process"))

    def make_queue(name: str) -> UUID:
        with suppress(ObjectAlreadyExists):
            client.create_work_queue(name, work_pool_name="lane-d")
        return client.read_work_queue_by_name(name, work_pool_name="lane-d").id

    high, by_hand = make_queue("high"), make_queue("by-hand")
    flow_id = client.create_flow_from_name(kind)
    deployment = client.create_deployment(
        flow_id, "lane-d", work_pool_name="lane-d", entrypoint="x.y", tags=["runbook"]
    )

    def start(queue: str, priority: int) -> UUID:
        tags = [f"priority:{priority}"]
        return client.create_flow_run_from_deployment(deployment, work_queue_name=queue, tags=tags).id

    runs = {start("high", 5): "high", start("by-hand", -1): "by-hand", start("by-hand", 20): "by-hand"}
    with syncing():
        eventually(lambda: statuses(engine, kind), dict.fromkeys(runs, "queued"), 30)
        if deleted == "pool":
            client.delete_work_pool("lane-d")
            client.create_work_pool(WorkPoolCreate(name="lane-d", type="process"))
        else:
            client.delete_work_queue_by_id(high)
            client.delete_work_queue_by_id(by_hand)
        assert [queue_of(client, run)[1] for run in runs] == [None, None, None]
        make_queue("low")
        make_queue("high")
        if deleted == "queue":
            make_queue("by-hand")
        else:  # nobody makes that one again: they go where their priority belongs
            make_queue("urgent")
            runs = dict(zip(runs, ("high", "low", "urgent"), strict=True))
        eventually(lambda: {run: queue_of(client, run)[1] for run in runs}, runs, 30)
        assert {queue_of(client, run)[0] for run in runs} == {"lane-d"}
        # what is recorded goes on being recorded, also while it is in no lane
        for run in runs:
            client.set_flow_run_state(run, Cancelled(), force=True)
        eventually(lambda: statuses(engine, kind), dict.fromkeys(runs, "cancelled"), 30)


def test_run_whose_tag_was_taken_away_is_recorded_to_its_end(
    client: SyncPrefectClient, kind: str, deployment_id: UUID, engine: Engine, syncing: Syncing
) -> None:
    run = client.create_flow_run_from_deployment(deployment_id)
    with syncing():
        eventually(lambda: statuses(engine, kind), {run.id: "queued"}, 30)
        client.update_flow_run(run.id, tags=["mine"])
        walk(client, run.id, claimed(), Running(), Completed())
        eventually(lambda: statuses(engine, kind), {run.id: "succeeded"}, 30)


@pytest.mark.parametrize("deleted", ["runs", "their deployment"])
def test_what_waits_is_cancelled_and_what_runs_goes_on_when_all_is_deleted_at_once(
    *, client: SyncPrefectClient, kind: str, deployment_id: UUID, engine: Engine, syncing: Syncing, deleted: str
) -> None:
    runs = [client.create_flow_run_from_deployment(deployment_id).id for _ in range(12)]
    for run in runs[:4]:
        walk(client, run, claimed(), Running())
    expected = dict.fromkeys(runs[:4], "running") | dict.fromkeys(runs[4:], "queued")
    with syncing():
        eventually(lambda: statuses(engine, kind), expected, 30)
        path: Any = "/flow_runs/bulk_delete" if deleted == "runs" else "/deployments/bulk_delete"
        ids = runs if deleted == "runs" else [deployment_id]
        wanted = {path.split("/")[1]: {"id": {"any_": [str(one) for one in ids]}}}
        assert len(client.request("POST", path, json=wanted).json()["deleted"]) == len(ids)
        eventually(lambda: statuses(engine, kind), expected | dict.fromkeys(runs[4:], "cancelled"), 30)
        if deleted == "runs":
            eventually(lambda: ["it keeps running" in "".join(events(engine, run)) for run in runs[:4]], [True] * 4)
        else:  # they are in Prefect, and end there
            for run in runs[:4]:
                walk(client, run, Completed())
            ended = dict.fromkeys(runs[:4], "succeeded") | dict.fromkeys(runs[4:], "cancelled")
            eventually(lambda: statuses(engine, kind), ended, 30)


def test_state_that_was_set_by_hand_is_told_by_an_event_and_set_right_in_prefect(
    client: SyncPrefectClient, kind: str, deployment_id: UUID, engine: Engine, syncing: Syncing
) -> None:
    put_back, over, started, pending = (client.create_flow_run_from_deployment(deployment_id).id for _ in range(4))
    walk(client, put_back, Pending(), Running())
    walk(client, over, Pending(), Running(), Completed())
    with syncing():
        expected = {put_back: "running", over: "succeeded", started: "queued", pending: "queued"}
        eventually(lambda: statuses(engine, kind), expected, 30)
        walk(client, put_back, Scheduled())
        walk(client, over, Running())
        walk(client, started, Running())
        walk(client, pending, Pending())
        names = {put_back: "Running", over: "Completed", started: "Scheduled", pending: "Scheduled"}
        eventually(lambda: {run: client.read_flow_run(run).state_name for run in names}, names, 30)
        eventually(lambda: statuses(engine, kind), expected, 30)
    assert "Scheduled was set in Prefect while it ran" in events(engine, put_back)[0]
    assert "Running was set in Prefect after its end: it stays succeeded" in events(engine, over)[0]
    assert "put back into its queue" in events(engine, started)[-1]
    assert "put back into its queue" in events(engine, pending)[-1]


def test_run_that_a_script_or_another_flow_starts_is_recorded_and_that_flow_is_not(
    client: SyncPrefectClient, kind: str, deployment_id: UUID, engine: Engine, syncing: Syncing
) -> None:
    with engine.begin() as db:
        session = make_session(db, name="scripted")
    started: list[UUID] = []

    def start() -> None:
        wanted = [f"session:{session}", "priority:7"]
        run: Any = run_deployment(f"{kind}/lane-a", tags=wanted, timeout=0)
        started.append(run.id)

    @flow(name=f"foreign-{kind}")
    def foreign() -> None:
        start()

    start()
    with tags("runbook"):
        foreign()
    assert client.read_flow_run(started[1]).parent_task_run_id is not None
    with syncing():
        eventually(lambda: statuses(engine, kind), dict.fromkeys(started, "queued"), 30)
        with engine.connect() as db:
            query = text("SELECT DISTINCT kind, lane::text, priority, session_id FROM ops.runs WHERE kind LIKE :own")
            assert [tuple(row) for row in db.execute(query, {"own": f"%{kind}"})] == [(kind, "A", 7, session)]
