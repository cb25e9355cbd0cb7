"""Give Prefect the deployments that it does not have, or has otherwise.

What does not differ is not touched: Prefect deletes the planned runs of a deployment that is written, and plans new
ones.
`prefect deploy --all` writes the same, with the commit as version, but takes 15 seconds longer.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, RRuleSchedule
from prefect.exceptions import PrefectException
from prefect.utilities.callables import parameter_schema

from deployments.server.client import pages
from deployments.server.wanted import TEMPLATE_TAG, Loaded, TemplateDeployment, WantedSchedule, deployments_of
from opsdb.errors import OpsError
from opsdb.kinds.template_files import PACKAGE
from opsdb.runs.prefect_runs import RUNBOOK_TAG


def apply_deployments(client: SyncPrefectClient, loaded: Collection[Loaded]) -> list[str]:
    """Write what differs. Returns the names of what was written.

    Raises OpsError, with the name of the deployment that Prefect refuses, and httpx.TransportError.
    """
    names = sorted({one.flow.name for one in loaded})
    ids = {name: client.create_flow_from_name(name) for name in names}
    found = {(one.flow_id, one.name): one for one in pages(client.read_deployments)}
    written = []
    for one in loaded:
        flow_id = ids[one.flow.name]
        try:
            if _apply(client, flow_id, one, found.get((flow_id, one.wanted.name))):
                written.append(one.wanted.full_name)
        except (PrefectException, httpx.HTTPStatusError, ValueError) as error:
            raise OpsError(f"Prefect refuses the deployment {one.wanted.full_name}: {str(error)[:1000]}") from error
    return written


def remove_others(client: SyncPrefectClient, templates: Collection[TemplateDeployment]) -> list[str]:
    """Remove the deployments of templates that no longer are there. Returns their names."""
    wanted = {(str(one["entrypoint"]), str(one["name"])) for template in templates for one in deployments_of(template)}
    removed = []
    for deployment in list(pages(client.read_deployments)):
        entrypoint = deployment.entrypoint or ""
        ours = {RUNBOOK_TAG, TEMPLATE_TAG} <= set(deployment.tags) and entrypoint.startswith(f"{PACKAGE}.")
        if ours and (entrypoint, deployment.name) not in wanted:
            client.delete_deployment(deployment.id)
            removed.append(f"{entrypoint.removeprefix(f'{PACKAGE}.')} in {deployment.name}")
    return removed


def _fields(one: Loaded) -> dict[str, Any]:
    wanted = one.wanted
    fields = {
        "entrypoint": wanted.entrypoint,
        "description": wanted.description or one.flow.description,
        "parameter_openapi_schema": parameter_schema(one.flow).model_dump(exclude_unset=True),
        "tags": wanted.tags,
        "parameters": wanted.parameters,
        "enforce_parameter_schema": wanted.enforce_parameter_schema,
        "work_pool_name": wanted.work_pool.name,
        "work_queue_name": wanted.work_pool.work_queue_name,
        "pull_steps": [],
        "job_variables": {},
    }
    return fields if wanted.version is None else fields | {"version": wanted.version}


def _apply(client: SyncPrefectClient, flow_id: UUID, one: Loaded, before: DeploymentResponse | None) -> bool:
    """Whether Prefect had to be told."""
    fields, wanted = _fields(one), one.wanted
    if before is None:
        schedules = [_new(schedule) for schedule in wanted.schedules]
        limit = wanted.concurrency_limit
        client.create_deployment(flow_id, wanted.name, **fields, schedules=schedules, concurrency_limit=limit)
        return True
    update = DeploymentUpdate(**fields)
    told = update.model_dump(mode="json", exclude_unset=True)
    differs = before.model_dump(mode="json", include=set(told)) != told
    if wanted.concurrency_limit != (before.global_concurrency_limit.limit if before.global_concurrency_limit else None):
        update.concurrency_limit, differs = wanted.concurrency_limit, True
    if differs:
        client.update_deployment(before.id, update)
    # each by itself: with the deployment, Prefect would take those away that were made in the UI
    for schedule in wanted.schedules:
        differs |= _apply_schedule(client, schedule, before)
    return differs


def _apply_schedule(client: SyncPrefectClient, wanted: WantedSchedule, deployment: DeploymentResponse) -> bool:
    """Whether Prefect had to be told. What an operator set in the form of the schedule stays, and so does a pause."""
    had = next((one for one in deployment.schedules if one.slug == wanted.slug), None)
    if had is None:
        client.create_deployment_schedules(deployment.id, [_new(wanted)])
        return True
    differs = not _is(wanted, had)
    if differs:
        client.update_deployment_schedule(
            deployment.id,
            had.id,
            active=had.active if wanted.active is None else wanted.active,
            schedule=wanted.schedule,
            parameters=had.parameters if wanted.parameters is None else wanted.parameters,
        )
    return differs


def _new(wanted: WantedSchedule) -> DeploymentScheduleCreate:
    active = True if wanted.active is None else wanted.active
    return DeploymentScheduleCreate(
        slug=wanted.slug, schedule=wanted.schedule, active=active, parameters=wanted.parameters or {}
    )


def _is(wanted: WantedSchedule, had: DeploymentSchedule) -> bool:
    return (
        _moments(wanted.schedule, of=wanted.schedule) == _moments(had.schedule, of=wanted.schedule)
        and wanted.active in (None, had.active)
        and wanted.parameters in (None, had.parameters)
    )


def _moments(schedule: SCHEDULE_TYPES, *, of: SCHEDULE_TYPES) -> dict[str, Any]:
    """What says when, without what Prefect adds where `of` says nothing: the day on which it heard of it."""
    found = schedule.model_dump(mode="json")
    if "anchor_date" not in of.model_fields_set:
        found.pop("anchor_date", None)
    if isinstance(of, RRuleSchedule) and not of.rrule.startswith("DTSTART"):
        found["rrule"] = str(found.get("rrule")).rpartition("\n")[2]
    return found | {"timezone": found.get("timezone") or "UTC"}
