"""The runs that Prefect has planned for the schedules of a deployment."""

from __future__ import annotations

from datetime import datetime
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
from prefect.client.schemas.objects import StateType


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
