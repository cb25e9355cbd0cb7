"""Whether each schedule of a deployment has planned runs, and what of a deployment somebody paused or limited."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from blocks.check import Check
from deployments.server.client import pages
from deployments.server.obstacles import limit_obstacle
from opsdb.schedules.fires import PLANNED_AHEAD, next_fire
from opsdb.schedules.impossible import ImpossibleScheduleError, expression

PLANNING = timedelta(minutes=3)
"""In which Prefect plans the runs of what was deployed: it looks every minute."""


def check_schedules(client: SyncPrefectClient, name: str, deployment: DeploymentResponse) -> Iterator[Check]:
    """Look at the schedules and the limit of a deployment, of that full name."""
    if obstacle := limit_obstacle(client, deployment):
        yield Check(name, obstacle.found, obstacle.advice)
    if deployment.paused:
        found = "is paused in Prefect: no schedule starts it, `ops run` does; its switch in the Prefect UI resumes it"
        yield Check(name, found)
    if not deployment.schedules:
        return
    now, planned = datetime.now(UTC), _planned(client, deployment)
    for schedule in deployment.schedules:
        changed = max((at for at in (schedule.updated, deployment.updated) if at), default=now)
        one = schedule if not deployment.paused else schedule.model_copy(update={"active": False})
        subject = name if len(deployment.schedules) == 1 else f"{name}, {label(schedule)}"
        yield judge_schedule(subject, one, planned.get(schedule.id), age=now - changed, now=now)


def label(schedule: DeploymentSchedule) -> str:
    """How people call a schedule: its slug, or when it fires."""
    return schedule.slug or expression(schedule.schedule)


def judge_schedule(
    name: str, schedule: DeploymentSchedule, planned_at: datetime | None, *, age: timedelta, now: datetime
) -> Check:
    """Whether Prefect has planned the next run of a schedule. `age`: since it was changed."""
    try:
        fires_at = next_fire(schedule.schedule, after=now)
    except ImpossibleScheduleError as error:
        return _judge_impossible(name, schedule, error)
    if not schedule.active:
        how = f"ops schedule set {name.replace(', ', '/')} --resume"
        return Check(name, f"its schedule {label(schedule)} is paused: nothing starts by it; `{how}`")
    if planned_at is not None:
        return Check(name, f"next scheduled for {planned_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    if fires_at - now > PLANNED_AHEAD:
        return Check(name, f"next due at {fires_at:%Y-%m-%d %H:%M} UTC; Prefect plans {PLANNED_AHEAD.days} days ahead")
    if age < PLANNING:
        return Check(name, "was deployed just now: Prefect plans its runs within a minute or two")
    advice = "the end of log/prefect.log in OPS_HOME says what became of schedule_deployments; then `ops deploy`"
    return Check(name, "has a schedule, but Prefect planned no run of it: it will not start", advice)


def _judge_impossible(name: str, schedule: DeploymentSchedule, error: ImpossibleScheduleError) -> Check:
    found = f"{expression(schedule.schedule)} {error.found}"
    if error.over and not schedule.active:
        return Check(name, f"{found}; it is paused")
    if schedule.active and not error.over:
        found += "; while it is active, Prefect plans none of the schedules beside it"
    return Check(name, found, error.hint)


def _planned(client: SyncPrefectClient, deployment: DeploymentResponse) -> dict[UUID, datetime]:
    """When the first run is due that Prefect planned of each schedule, by its id."""
    planned: dict[UUID, datetime] = {}
    found = pages(
        client.read_flow_runs,
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC)),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    wanted = {schedule.id for schedule in deployment.schedules if schedule.active}
    for run in found:
        if run.auto_scheduled and run.created_by and run.created_by.id and run.expected_start_time:
            planned.setdefault(run.created_by.id, run.expected_start_time)
        if wanted <= planned.keys():
            break
    return planned
