"""The runs that Prefect has planned for the schedules of a deployment."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

log = logging.getLogger(__name__)


def plan_from(client: SyncPrefectClient, deployment_id: UUID, since: datetime) -> None:
    """Have Prefect plan the runs that are due after `since`, at once.

    What is planned already stays as it is: Prefect plans each due time of a schedule once. Raises httpx.TransportError.
    """
    try:
        client.request(
            "POST", "/deployments/{id}/schedule", path_params={"id": deployment_id}, json={"start_time": str(since)}
        )
    except httpx.HTTPStatusError as error:  # a schedule that somebody made in the UI and that never fires, say
        log.warning("deployment %s: Prefect did not plan its runs: %s", deployment_id, str(error)[:300])


def first_due(client: SyncPrefectClient, deployment_id: UUID) -> datetime | None:
    """When the first run was due that a schedule wanted and that still waits; None when there is none."""
    waiting = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=200,
    )
    now = datetime.now(UTC)
    return next((due for run in waiting if (due := _due(run)) and due <= now), None)


def count_due(client: SyncPrefectClient, deployment_id: UUID, schedule_id: UUID, *, now: datetime) -> int:
    """How many runs of a schedule were due by `now`, Prefect's clock, and still wait for their start; at most 200."""
    waiting = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
        ),
        limit=200,
    )
    of_schedule = [run for run in waiting if run.created_by is not None and run.created_by.id == schedule_id]
    return sum(run.run_count == 0 and run.auto_scheduled for run in of_schedule)


def _due(run: FlowRun) -> datetime | None:
    return run.expected_start_time if run.auto_scheduled else None
