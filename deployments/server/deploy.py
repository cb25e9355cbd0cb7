"""Write to Prefect's server what the room needs there: lanes, deployments and types of blocks.

What does not differ is not touched: Prefect deletes the planned runs of a deployment that is written, and plans new
ones. `prefect deploy --all` writes the same deployments, with the commit as version, but takes 15 seconds longer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, RRuleSchedule
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.utilities.callables import parameter_schema

from blocks.block_types import register_block_types
from deployments.server.client import pages
from deployments.server.declared import (
    QUEUES,
    TEMPLATE_TAG,
    DeclaredSchedule,
    Loaded,
    TemplateDeployment,
    deployments_of,
    load_deployments,
)
from deployments.server.schedules import apply_declared_rules, remove_schedules_of_templates
from deployments.worker.lane_worker import BASE_JOB_TEMPLATE, LaneWorker
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.kinds.template_files import PACKAGE
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.settings import Settings
from opsdb.tables import Lane


def deploy_everything(
    settings: Settings, *, templates: Collection[TemplateDeployment], all_read: bool, say: Callable[[str], None]
) -> None:
    """Make or update the lanes, the deployments and the types of blocks. Repeating it changes nothing.

    Deployments of templates that are gone are removed, if `all_read`: else a file could not be read, and what it was
    is not known.

    Raises RoomUnreachableError when Prefect's API does not answer, and OpsError: before anything is written when it is
    prefect.yaml that is wrong, or a runbook.
    """
    loaded = load_deployments(settings.prefect_yaml, templates)
    try:
        with get_client(sync_client=True) as client:
            for lane in Lane:
                _apply_lane(client, lane, limit=settings.lane_limit)
                say(f"lane {lane}: {settings.lane_limit} runs at once")
            written = apply_deployments(client, loaded)
            if all_read:
                for name in _remove_others(client, templates):
                    say(f"{name} removed: its template is gone")
            declared = [one.declared for one in loaded]
            for name in remove_schedules_of_templates(client, declared, now=datetime.now(UTC)):
                say(f"schedule {name} removed: its template asks for none")
            apply_declared_rules(client, settings, declared)
        slugs = register_block_types()
    except httpx.HTTPStatusError as error:
        raise OpsError(f"Prefect refused the lanes or schedules: {str(error)[:1000]}") from error
    except httpx.HTTPError as error:
        raise RoomUnreachableError(f"Prefect's API does not answer ({error}): `ops status` tells what runs") from error
    as_they_were = len(loaded) - len(written)
    say(f"deployments: {len(written)} written, {as_they_were} as they were before")
    say(f"templates: {', '.join(sorted(template.kind for template in templates)) or 'none'}")
    say(f"block types registered: {', '.join(slugs)}")


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
            if _apply(client, flow_id, one, found.get((flow_id, one.declared.name))):
                written.append(one.declared.full_name)
        except (PrefectException, httpx.HTTPStatusError, ValueError) as error:
            raise OpsError(f"Prefect refuses the deployment {one.declared.full_name}: {str(error)[:1000]}") from error
    return written


def _apply_lane(client: SyncPrefectClient, lane: Lane, *, limit: int) -> None:
    description = f"Lane {lane} of the Ops Control Room. `ops deploy` writes its settings."
    settings: dict[str, Any] = {
        "description": description,
        "concurrency_limit": limit,
        "base_job_template": BASE_JOB_TEMPLATE,
    }
    try:
        pool = client.read_work_pool(lane.pool)
        if pool.model_dump(include=set(settings)) != settings:
            client.update_work_pool(lane.pool, WorkPoolUpdate(**settings))
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=lane.pool, type=LaneWorker.type, **settings))
    queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=lane.pool)}
    for number, name in enumerate(QUEUES, start=1):
        queue = queues.get(name) or client.create_work_queue(name, work_pool_name=lane.pool)
        if queue.priority != number:
            client.update_work_queue(queue.id, priority=number)


def _remove_others(client: SyncPrefectClient, templates: Collection[TemplateDeployment]) -> list[str]:
    """Remove the deployments of templates that no longer are there. Returns their names."""
    kept = {(str(one["entrypoint"]), str(one["name"])) for template in templates for one in deployments_of(template)}
    removed = []
    for deployment in list(pages(client.read_deployments)):
        entrypoint = deployment.entrypoint or ""
        ours = {RUNBOOK_TAG, TEMPLATE_TAG} <= set(deployment.tags) and entrypoint.startswith(f"{PACKAGE}.")
        if ours and (entrypoint, deployment.name) not in kept:
            client.delete_deployment(deployment.id)
            removed.append(f"{entrypoint.removeprefix(f'{PACKAGE}.')} in {deployment.name}")
    return removed


def _fields(one: Loaded) -> dict[str, Any]:
    declared = one.declared
    fields = {
        "entrypoint": declared.entrypoint,
        "description": declared.description or one.flow.description,
        "parameter_openapi_schema": parameter_schema(one.flow).model_dump(exclude_unset=True),
        "tags": declared.tags,
        "parameters": declared.parameters,
        "enforce_parameter_schema": declared.enforce_parameter_schema,
        "work_pool_name": declared.work_pool.name,
        "work_queue_name": declared.work_pool.work_queue_name,
        "pull_steps": [],
        "job_variables": {},
    }
    return fields if declared.version is None else fields | {"version": declared.version}


def _apply(client: SyncPrefectClient, flow_id: UUID, one: Loaded, before: DeploymentResponse | None) -> bool:
    """Whether Prefect had to be told."""
    fields, declared = _fields(one), one.declared
    if before is None:
        schedules = [_new_schedule(schedule) for schedule in declared.schedules]
        client.create_deployment(
            flow_id, declared.name, **fields, schedules=schedules, concurrency_limit=declared.concurrency_limit
        )
        return True
    update = DeploymentUpdate(**fields)
    told = update.model_dump(mode="json", exclude_unset=True)
    differs = before.model_dump(mode="json", include=set(told)) != told
    if declared.concurrency_limit != (
        before.global_concurrency_limit.limit if before.global_concurrency_limit else None
    ):
        update.concurrency_limit, differs = declared.concurrency_limit, True
    if differs:
        client.update_deployment(before.id, update)
    # each by itself: with the deployment, Prefect would take those away that were made in the UI
    for schedule in declared.schedules:
        differs |= _apply_schedule(client, schedule, before)
    return differs


def _apply_schedule(client: SyncPrefectClient, declared: DeclaredSchedule, deployment: DeploymentResponse) -> bool:
    """Whether Prefect had to be told. What an operator set in the form of the schedule stays, and so does a pause."""
    had = next((one for one in deployment.schedules if one.slug == declared.slug), None)
    if had is None:
        client.create_deployment_schedules(deployment.id, [_new_schedule(declared)])
        return True
    differs = not _is_as_declared(declared, had)
    if differs:
        client.update_deployment_schedule(
            deployment.id,
            had.id,
            active=had.active if declared.active is None else declared.active,
            schedule=declared.schedule,
            parameters=had.parameters if declared.parameters is None else declared.parameters,
        )
    return differs


def _new_schedule(declared: DeclaredSchedule) -> DeploymentScheduleCreate:
    active = True if declared.active is None else declared.active
    return DeploymentScheduleCreate(
        slug=declared.slug, schedule=declared.schedule, active=active, parameters=declared.parameters or {}
    )


def _is_as_declared(declared: DeclaredSchedule, had: DeploymentSchedule) -> bool:
    return (
        _moments(declared.schedule, of=declared.schedule) == _moments(had.schedule, of=declared.schedule)
        and declared.active in (None, had.active)
        and declared.parameters in (None, had.parameters)
    )


def _moments(schedule: SCHEDULE_TYPES, *, of: SCHEDULE_TYPES) -> dict[str, Any]:
    """What says when, without what Prefect adds where `of` says nothing: the day on which it heard of it."""
    found = schedule.model_dump(mode="json")
    if "anchor_date" not in of.model_fields_set:
        found.pop("anchor_date", None)
    if isinstance(of, RRuleSchedule) and not of.rrule.startswith("DTSTART"):
        found["rrule"] = str(found.get("rrule")).rpartition("\n")[2]
    return found | {"timezone": found.get("timezone") or "UTC"}
