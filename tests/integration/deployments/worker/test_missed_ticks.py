"""What was due while the room was down, at a real Prefect server with a real ops database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists
from sqlalchemy import Engine, text

from deployments.worker.missed_ticks import plan_missed
from deployments.worker.ticks import schedule_of
from opsdb.schedules.catch_up import read_catch_up
from opsdb.schedules.store import write_person
from opsdb.settings import Settings

AWAY = timedelta(hours=6)


@pytest.fixture
def deployment_id(client: SyncPrefectClient, prefect_room: Settings, postgres: str) -> UUID:
    """A runbook with an hourly schedule for each rule, made long before the room went down."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    flow_id = client.create_flow_from_name(f"kind_{uuid4().hex}")
    hourly = CronSchedule(cron="0 * * * *", timezone="UTC")
    schedules = [DeploymentScheduleCreate(slug=slug, schedule=hourly) for slug in ("all", "once", "skip")]
    made = client.create_deployment(
        flow_id, "night", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"], schedules=schedules
    )
    with psycopg.connect(postgres.format(database=prefect_room.prefect_database)) as db:
        db.execute("UPDATE deployment_schedule SET updated = updated - interval '1 day'")
    return made


def slugs(client: SyncPrefectClient, deployment_id: UUID) -> dict[UUID, str]:
    found = client.read_deployment_schedules(deployment_id)
    return {one.id: one.slug or "" for one in found}


def was_away(engine: Engine, since: timedelta) -> None:
    with engine.begin() as db:
        db.execute(
            text(
                "INSERT INTO ops.sync_marks (name, at) VALUES ('planned', clock_timestamp() - :since) "
                "ON CONFLICT (name) DO UPDATE SET at = excluded.at"
            ),
            {"since": since},
        )


def plan(engine: Engine) -> int:
    return asyncio.run(plan_missed(engine))


def due_before_now(client: SyncPrefectClient, deployment_id: UUID, slug: str) -> list[datetime]:
    own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    names, now = slugs(client, deployment_id), datetime.now(UTC)
    return sorted(
        run.expected_start_time
        for run in client.read_flow_runs(flow_run_filter=own)
        if run.expected_start_time and run.expected_start_time <= now and names[schedule_of(run) or uuid4()] == slug
    )


def test_what_was_due_meanwhile_is_planned_once_however_often_a_worker_starts(
    client: SyncPrefectClient, engine: Engine, deployment_id: UUID
) -> None:
    with engine.begin() as db:
        for schedule_id, slug in slugs(client, deployment_id).items():
            rule = read_catch_up("once within 2h" if slug == "once" else slug)
            write_person(db, schedule_id, catch_up=rule, blackouts=None, by="ann")
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    expected = [hour - timedelta(hours=number) for number in reversed(range(6))]
    for _ in range(2):
        was_away(engine, AWAY)
        assert plan(engine) >= 1
        assert due_before_now(client, deployment_id, "all") == expected
        assert due_before_now(client, deployment_id, "once")[-1] == hour
    with engine.connect() as db:
        noted = db.scalar(text("SELECT clock_timestamp() - at FROM ops.sync_marks WHERE name = 'planned'"))
    assert noted < timedelta(minutes=5)


def test_room_that_was_not_away_plans_nothing(client: SyncPrefectClient, engine: Engine, deployment_id: UUID) -> None:
    assert plan(engine) == 0  # a new room
    was_away(engine, timedelta(minutes=4))
    assert plan(engine) == 0
    assert due_before_now(client, deployment_id, "all") == []


@pytest.mark.parametrize("what", ["deployment", "schedule"])
def test_what_is_paused_is_not_planned(
    client: SyncPrefectClient, engine: Engine, deployment_id: UUID, what: str
) -> None:
    if what == "deployment":
        client.pause_deployment(deployment_id)
    else:
        for schedule_id in slugs(client, deployment_id):
            client.update_deployment_schedule(deployment_id, schedule_id, active=False)
    was_away(engine, AWAY)
    plan(engine)
    assert all(due_before_now(client, deployment_id, slug) == [] for slug in ("all", "once", "skip"))


def test_what_a_schedule_says_since_a_change_is_nothing_that_it_wanted_before(
    client: SyncPrefectClient, engine: Engine, deployment_id: UUID
) -> None:
    later = CronSchedule(cron="30 * * * *", timezone="UTC")
    for schedule_id in slugs(client, deployment_id):
        client.update_deployment_schedule(deployment_id, schedule_id, schedule=later)
    was_away(engine, AWAY)
    plan(engine)
    assert all(due_before_now(client, deployment_id, slug) == [] for slug in ("all", "once", "skip"))
