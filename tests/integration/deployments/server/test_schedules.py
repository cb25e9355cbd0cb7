"""Schedules at a real Prefect server: what it plans is what is forecast, and what is changed is planned at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectAlreadyExists

from deployments.server.client import pages
from deployments.server.schedules import (
    RunbookSchedule,
    change_schedule,
    find_schedule,
    last_ticks,
    read_schedules,
)
from opsdb.errors import UsageError
from opsdb.schedules.forecast import forecast
from opsdb.schedules.rules import ScheduleRules
from opsdb.schedules.times import Schedule

YEARLY = CronSchedule(cron="0 2 1 1 *", timezone="UTC")
Make = Callable[..., RunbookSchedule]


@pytest.fixture
def make(client: SyncPrefectClient) -> Make:
    """Deploys a runbook with schedules of its own, by slug, and gives the first."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    flow_id = client.create_flow_from_name(f"kind_{uuid4().hex}")

    def deploy(schedules: dict[str | None, Schedule], *, name: str = "", tags: list[str] | None = None) -> Any:
        name = name or f"night-{uuid4().hex[:8]}"
        deployment_id = client.create_deployment(
            flow_id,
            name,
            work_pool_name="lane-a",
            entrypoint="x.y",
            tags=["runbook", *(tags or [])],
            schedules=[
                DeploymentScheduleCreate(slug=slug, schedule=schedule, active=True, parameters={})
                for slug, schedule in schedules.items()
            ],
        )
        own = [one for one in read_schedules(client) if one.deployment.id == deployment_id]
        return next(one for one in own if one.entry.slug == next(iter(schedules)))

    return deploy


def runs_of(client: SyncPrefectClient, deployment_id: UUID) -> list[FlowRun]:
    own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    return [run for run in pages(client.read_flow_runs, flow_run_filter=own) if run.auto_scheduled]


def planned(client: SyncPrefectClient, deployment_id: UUID, *, start: datetime, end: datetime) -> list[datetime]:
    """What Prefect plans between these."""
    length = (end - start).total_seconds()
    json = {"start_time": start.isoformat(), "end_time": end.isoformat(), "min_time": length, "max_runs": 100}
    client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment_id}, json=json)
    found = [run.expected_start_time for run in runs_of(client, deployment_id)]
    return sorted(datetime.fromtimestamp(at.timestamp(), UTC) for at in found if at and start <= at <= end)


@pytest.mark.parametrize("zone", ["Europe/Rome", "America/New_York", "Australia/Lord_Howe", "Asia/Manila"])
def test_forecast_is_what_prefect_plans_also_when_clocks_change(
    client: SyncPrefectClient, make: Make, zone: str
) -> None:
    anchor = datetime(2026, 9, 1, 2, 30, tzinfo=ZoneInfo(zone))
    schedules: list[Schedule] = [
        CronSchedule(cron="30 2 * * *", timezone=zone),
        CronSchedule(cron="15,45 1-3 * * *", timezone=zone),
        IntervalSchedule(interval=timedelta(days=1), anchor_date=anchor, timezone=zone),
        IntervalSchedule(interval=timedelta(minutes=50), anchor_date=anchor, timezone=zone),
        RRuleSchedule(rrule="FREQ=DAILY;BYHOUR=2;BYMINUTE=15;BYSECOND=0", timezone=zone),
    ]
    # the nights of 2027 in which they change: in spring and autumn, there and there
    nights = [(3, 27), (10, 30), (3, 13), (11, 6), (4, 3), (10, 2)]
    for schedule in schedules:
        one = make({"s": schedule})
        for month, day in nights:
            start = datetime(2027, month, day, tzinfo=UTC)
            expected = [due.at.astimezone(UTC) for due in forecast(schedule, ScheduleRules(), start=start, days=3).due]
            found = planned(client, one.deployment.id, start=start, end=start + timedelta(days=3))
            assert found == expected, (schedule, start)
            assert len(found) >= 3


def test_changed_schedule_is_planned_at_once_and_each_due_time_once(client: SyncPrefectClient, make: Make) -> None:
    one = make({"s": YEARLY, "other": CronSchedule(cron="0 3 1 1 *", timezone="UTC")})
    now = datetime.now(UTC)
    planned(client, one.deployment.id, start=now, end=now + timedelta(days=800))
    wanted = CronSchedule(cron="30 3 2 1 *", timezone="Asia/Manila")
    change_schedule(client, one, schedule=wanted, parameters={"command": "x"})
    runs = runs_of(client, one.deployment.id)
    due = [run.expected_start_time for run in runs]
    assert len(due) == len(set(due))
    of_this = {
        (at.astimezone(ZoneInfo("Asia/Manila")).strftime("%m-%d %H:%M"), run.parameters.get("command"))
        for run in runs
        if (at := run.expected_start_time) and run.created_by and run.created_by.id == one.id
    }
    assert of_this == {("01-02 03:30", "x")}
    others = [run for run in runs if run.created_by and run.created_by.display_value == "other"]
    assert others  # what a change took away of it was planned again
    [after] = [each for each in read_schedules(client) if each.id == one.id]
    assert (after.entry.slug, after.entry.active) == ("s", True)


def test_tick_that_is_near_is_neither_lost_nor_doubled_by_changes(client: SyncPrefectClient, make: Make) -> None:
    anchor = datetime.now(UTC) - timedelta(hours=1)
    one = make({"s": IntervalSchedule(interval=timedelta(seconds=1), anchor_date=anchor, timezone="UTC")})
    begin = datetime.now(UTC)
    for number in range(20):
        change_schedule(client, one, parameters={"n": number})
    end = datetime.now(UTC)
    due = [run.expected_start_time for run in runs_of(client, one.deployment.id)]
    seconds = sorted(int((at - anchor).total_seconds()) for at in due if at and begin <= at <= end)
    assert seconds == list(range(seconds[0], seconds[-1] + 1))


def test_paused_schedule_and_paused_deployment_are_not_planned(client: SyncPrefectClient, make: Make) -> None:
    one = make({"s": YEARLY})
    planned = {run.id for run in runs_of(client, one.deployment.id)}
    change_schedule(client, one, active=False)
    late = {run.id for run in runs_of(client, one.deployment.id)}
    assert not planned & late
    for run in late:  # Prefect's planner had read the schedule before it was paused
        client.delete_flow_run(run)
    client.pause_deployment(one.deployment.id)
    [paused] = [each for each in read_schedules(client) if each.id == one.id]
    assert (paused.state, paused.runs) == ("deployment paused", False)
    change_schedule(client, paused, active=True)
    assert runs_of(client, one.deployment.id) == []


def test_schedules_have_the_names_that_people_give(client: SyncPrefectClient, make: Make) -> None:
    single = make({"s": YEARLY})
    assert single.name == single.deployment.name
    several = make({"weekly": YEARLY, "daily": YEARLY, None: YEARLY})
    assert several.name == f"{several.deployment.name}/weekly"
    kind = single.kind
    in_lane = make({"s": YEARLY}, name=f"{kind}-lane-a")
    assert in_lane.name == f"{kind}-lane-a"
    found = read_schedules(client)
    for former in (f"{kind}/lane-a", f"{kind}/lane-a/s"):  # as people called it until 0.1
        assert find_schedule(found, former).id == in_lane.id
    for one in (single, several, in_lane):
        assert find_schedule(found, one.name).id == one.id
        assert find_schedule(found, f"{one.kind}/{one.deployment.name}/{one.entry.slug}").id == one.id
    own = [one.name for one in found if one.deployment.id == several.deployment.id]
    nameless = [one for one in found if one.deployment.id == several.deployment.id and not one.entry.slug]
    assert f"{several.deployment.name}/{nameless[0].id.hex[-8:]}" in own
    with pytest.raises(UsageError, match="has several schedules"):
        find_schedule(found, several.deployment.name)


def test_newest_tick_of_each_schedule_is_found(client: SyncPrefectClient, make: Make) -> None:
    one = make({"s": CronSchedule(cron="0 * * * *", timezone="UTC"), "other": YEARLY})
    now = datetime.now(UTC)
    planned(client, one.deployment.id, start=now - timedelta(hours=5), end=now + timedelta(hours=5))
    last = last_ticks(client, [one], before=now)
    assert last.keys() == {one.id}
    assert last[one.id].expected_start_time == now.replace(minute=0, second=0, microsecond=0)
