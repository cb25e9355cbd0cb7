"""What the room sees of lanes and schedules in a real Prefect server, and that it pauses what never fires."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from sqlalchemy import Engine, text

from deployments.server.plan_watch import PlanWatch
from tests.support.waiting import wait_for

IMPOSSIBLE = CronSchedule(cron="0 0 30 2 *")
YEARLY = CronSchedule(cron=f"0 0 {(datetime.now(UTC) - timedelta(days=30)):%d %m} *")
"""It fires next in eleven months: Prefect plans no run of it yet."""


@pytest.fixture
def lane_a(client: SyncPrefectClient) -> Iterator[None]:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    yield
    client.update_work_pool("lane-a", WorkPoolUpdate(is_paused=False, concurrency_limit=3))


@pytest.fixture
def deployment(client: SyncPrefectClient, lane_a: None) -> Iterator[UUID]:
    """A runbook in lane A, gone afterwards."""
    flow = client.create_flow_from_name(f"kind-{uuid4()}")
    made = client.create_deployment(flow, "nightly", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"])
    yield made
    with suppress(ObjectNotFound):
        client.delete_deployment(made)


def schedule(client: SyncPrefectClient, deployment: UUID, slug: str, when: Any) -> UUID:
    made = client.create_deployment_schedules(
        deployment, [DeploymentScheduleCreate(slug=slug, schedule=when, active=True)]
    )
    return made[0].id


@pytest.fixture
def look(engine: Engine, client: SyncPrefectClient) -> Callable[[], dict[str, Any]]:
    """Look once. Returns the plans that are kept, by the slug of the schedule."""

    async def once() -> None:
        async with get_client() as asynchronous:
            await PlanWatch(asynchronous, engine).look()

    def looked() -> dict[str, Any]:
        asyncio.run(once())
        with engine.connect() as db:
            return {row.name: row for row in db.execute(text("SELECT * FROM ops.schedule_plans"))}

    return looked


def planned(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    return [run for run in client.read_flow_runs(deployment_filter=only) if run.auto_scheduled]


def test_schedule_that_never_fires_is_paused_and_the_others_are_planned_at_once(
    client: SyncPrefectClient,
    deployment: UUID,
    look: Callable[[], dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    leap = schedule(client, deployment, "leap", IMPOSSIBLE)
    good = schedule(client, deployment, "good", IntervalSchedule(interval=timedelta(minutes=30)))
    schedule(client, deployment, "until", RRuleSchedule(rrule="FREQ=DAILY;UNTIL=20990101T000000Z"))
    found = look()
    active = {one.slug: one.active for one in client.read_deployment_schedules(deployment)}
    assert active == {"leap": False, "good": True, "until": False}
    assert {run.created_by.id for run in planned(client, deployment) if run.created_by} == {good}
    assert found["leap"].fault.startswith("cron '0 0 30 2 *' never fires")
    assert (found["good"].fault, found["good"].planned_at is not None) == (None, True)
    assert "schedule leap of kind-" in caplog.text
    assert "paused: cron '0 0 30 2 *' never fires" in caplog.text
    assert look()["leap"].fault is not None  # until somebody changes it
    client.update_deployment_schedule(deployment, leap, schedule=CronSchedule(cron="0 0 1 2 *"))
    assert look()["leap"].fault is None
    client.delete_deployment_schedule(deployment, leap)
    assert "leap" not in look()


def test_tick_that_was_planned_before_stands_once_when_another_schedule_is_paused(
    client: SyncPrefectClient, deployment: UUID, look: Callable[[], dict[str, Any]]
) -> None:
    schedule(client, deployment, "often", IntervalSchedule(interval=timedelta(seconds=30)))
    wait_for(lambda: planned(client, deployment), what="a planned run")
    before = {run.expected_start_time for run in planned(client, deployment)}
    schedule(client, deployment, "leap", IMPOSSIBLE)
    look()
    times = [run.expected_start_time for run in planned(client, deployment)]
    assert len(times) == len(set(times))
    soon = datetime.now(UTC) + timedelta(minutes=10)  # Prefect plans an hour ahead
    assert {at for at in before if at and datetime.now(UTC) < at < soon} <= set(times)


def test_schedule_without_a_planned_run_is_noticed_unless_none_is_due_for_long(
    client: SyncPrefectClient, deployment: UUID, look: Callable[[], dict[str, Any]]
) -> None:
    schedule(client, deployment, "good", IntervalSchedule(interval=timedelta(minutes=30)))
    schedule(client, deployment, "yearly", YEARLY)
    schedule(client, deployment, "over", RRuleSchedule(rrule="FREQ=DAILY;COUNT=3"))
    first: dict[str, Any] = {}

    def unplanned() -> bool:  # Prefect's scheduler may come just now, also between the two
        for run in planned(client, deployment):
            client.delete_flow_run(run.id)
        first.update(look())
        return first["good"].unplanned_since is not None

    wait_for(unplanned, seconds=60, what="a schedule without a planned run is noticed")
    assert {name: first[name].unplanned_since is not None for name in ("good", "yearly", "over")} == {
        "good": True,  # Prefect's scheduler comes in a minute
        "yearly": False,
        "over": False,
    }
    assert {first[name].fault for name in ("good", "yearly", "over")} == {None}
    assert look()["good"].unplanned_since == first["good"].unplanned_since
    client.pause_deployment(deployment)
    found = look()
    assert (found["good"].active, found["good"].unplanned_since) == (False, None)


@pytest.mark.usefixtures("lane_a")
def test_slots_are_those_of_the_lane_in_prefect(
    client: SyncPrefectClient, engine: Engine, look: Callable[[], dict[str, Any]]
) -> None:
    def slots() -> Any:
        look()
        with engine.connect() as db:
            return db.scalar(text("SELECT slots FROM ops.lane_limits WHERE lane = 'A'"))

    client.update_work_pool("lane-a", WorkPoolUpdate(concurrency_limit=0))
    assert slots() == 0
    client.update_work_pool("lane-a", WorkPoolUpdate(concurrency_limit=2))
    assert slots() == 2
    client.update_work_pool("lane-a", WorkPoolUpdate(is_paused=True))
    assert slots() == 0
