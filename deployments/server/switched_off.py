"""What a setting switches off is removed: its deployments go, and what waits in them ends and says why."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from deployments.server.client import pages, runbook_deployments
from deployments.server.when import when_of
from opsdb.database import writing
from opsdb.deployed import forget_deployed
from opsdb.kinds.kinds import switch_of
from opsdb.runs.lookup import read_statuses, short_id
from opsdb.settings import Settings
from opsdb.states import SWITCHED_OFF, RunStatus

WAITS = [StateType.SCHEDULED, StateType.PAUSED]


def remove_switched_off(client: SyncPrefectClient, settings: Settings, off: Collection[str]) -> Iterator[str]:
    """Remove the deployments of entrypoints in `off`, and yield what to say of each.

    Runs that wait in them are cancelled; those that a schedule has planned for later are deleted. Running ones
    continue. Raises RoomUnreachableError when the ops database does not answer, and httpx.HTTPError.
    """
    for kind, deployment in list(runbook_deployments(client)):
        if deployment.entrypoint not in off:
            continue
        name = f"{kind}/{deployment.name}"
        cancelled = _cancel_waiting(client, settings, kind, deployment)
        with suppress(ObjectNotFound):  # somebody was first
            client.delete_deployment(deployment.id)
        with writing(settings, application="deploy") as db:
            forget_deployed(db, [name])
        ended = f"; cancelled, since they waited in it: {', '.join(cancelled)}" if cancelled else ""
        lost = "; ".join(str(when_of(one.schedule)) for one in deployment.schedules)
        schedules = f"; with its schedules: {lost}" if lost else ""
        yield f"{name} removed: {switch_of(kind)} is off{schedules}{ended}"


def name_switched_off(client: SyncPrefectClient, off: Collection[str]) -> Iterator[str]:
    """Yield a line for each deployment of an entrypoint in `off`, which stays. Raises httpx.HTTPError."""
    for kind, deployment in runbook_deployments(client):
        if deployment.entrypoint in off:
            yield (
                f"{kind}/{deployment.name} stays as it is: {switch_of(kind)} is off here, and the room itself may have "
                "it on. A room that has it off removes it when it starts"
            )


def _cancel_waiting(
    client: SyncPrefectClient, settings: Settings, kind: str, deployment: DeploymentResponse
) -> list[str]:
    """Cancel what waits to be executed, before Prefect deletes it with its deployment. Returns the short ids."""
    waiting = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=WAITS)),
    )
    runs = [run for run in pages(client.read_flow_runs, flow_run_filter=waiting) if not _is_planned(run)]
    with writing(settings, application="deploy") as db:
        recorded = read_statuses(db, [run.id for run in runs])
    message = (
        f"{kind} was switched off while the run waited: nothing of it ran since. Hint: set {switch_of(kind)}=true "
        "where the room starts, restart it, and start the run again"
    )
    cancelled = []
    for run in runs:
        if run.run_count and recorded.get(run.id) is RunStatus.RUNNING:
            continue  # somebody paused it in Prefect: its process keeps running
        with suppress(ObjectNotFound):  # deleted meanwhile
            client.set_flow_run_state(run.id, Cancelled(name=SWITCHED_OFF, message=message), force=True)
            cancelled.append(short_id(run.id))
    return cancelled


def _is_planned(run: FlowRun) -> bool:
    """Whether a schedule made it for a time to come."""
    due = run.expected_start_time
    return run.auto_scheduled and due is not None and due > datetime.now(UTC)
