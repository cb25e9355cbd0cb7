"""Write deployments and their schedules to Prefect's server: what differs, and nothing else.

The server deletes the runs that it has planned for a deployment that is written, and plans new ones at once: see
`planning`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectException
from prefect.utilities.callables import parameter_schema

from deployments.server.client import pages
from deployments.server.declared import QUEUES, DeclaredDeployment, DeclaredSchedule, Loaded
from deployments.server.form import NOTHING_KNOWN, Offers, form_of
from deployments.server.merge import MISSING, Kept, Merge, given
from deployments.server.when import is_when, when_of
from opsdb.errors import OpsError

Applied = Callable[[str, dict[str, Any]], None]
"""Takes the name of a deployment that is applied, and its settings as the file says."""


@dataclass
class Outcome:
    """What `apply_deployments` did."""

    written: list[str] = field(default_factory=list)
    """The names of the deployments of which something was written."""
    kept: list[Kept] = field(default_factory=list)
    """What differs from the file and stays."""


def apply_deployments(
    client: SyncPrefectClient,
    loaded: Collection[Loaded],
    *,
    last: Mapping[str, Mapping[str, Any]],
    applied: Applied,
    offers: Offers = NOTHING_KNOWN,
    reset: Collection[str] = (),
) -> Outcome:
    """Write what differs from the file, but what a person set in Prefect since `last`: that stays, unless it is reset.

    `last` has the settings that were applied last, by the name of their deployment; `applied` is called for each that
    has others now; `offers` is what the forms name. Raises OpsError, with the name of the deployment that Prefect
    refuses, and httpx.TransportError.
    """
    flows = {flow.name: flow.id for flow in pages(client.read_flows)}
    found = {(one.flow_id, one.name): one for one in pages(client.read_deployments)}
    schema = cache(lambda flow: parameter_schema(flow).model_dump(exclude_unset=True))
    outcome = Outcome()
    for one in loaded:
        declared, name = one.declared, one.declared.full_name
        before = found.get((flows[one.flow.name], declared.name)) if one.flow.name in flows else None
        merge = Merge(name, settings_of(declared), last.get(name, {}), reset=name in reset)
        form = form_of(schema(one.flow), offers, before.parameter_openapi_schema if before else None)
        try:
            if one.flow.name not in flows:
                flows[one.flow.name] = client.create_flow_from_name(one.flow.name)
            if before is None:
                _create(client, flows[one.flow.name], declared, _own_fields(one, form))
            if before is None or _update(client, declared, _own_fields(one, form), before, merge):
                outcome.written.append(name)
        except (PrefectException, httpx.HTTPStatusError, ValueError) as error:
            raise OpsError(f"Prefect refuses the deployment {name}: {str(error)[:1000]}") from error
        outcome.kept += merge.kept
        if merge.last != merge.declared:
            applied(name, dict(merge.declared))
    return outcome


def settings_of(declared: DeclaredDeployment) -> dict[str, Any]:
    """What the file says of the settings that a person may change, as JSON."""
    settings: dict[str, Any] = {
        "parameters": declared.parameters,
        "concurrency limit": declared.concurrency_limit,
        "work queue": declared.work_pool.work_queue_name,
        "tags": declared.tags,
    }
    for schedule in declared.schedules:
        values = (schedule.when, schedule.active, schedule.parameters)
        settings |= zip(_setting_names(schedule.slug), values, strict=True)
    return settings


def _setting_names(slug: str) -> tuple[str, str, str]:
    return f"time of schedule {slug}", f"activity of schedule {slug}", f"parameters of schedule {slug}"


def _own_fields(one: Loaded, form: dict[str, Any]) -> dict[str, Any]:
    """The part of a deployment that is the room's alone."""
    declared = one.declared
    fields: dict[str, Any] = {
        "entrypoint": declared.entrypoint,
        "description": declared.description or one.flow.description,
        "parameter_openapi_schema": form,
        "enforce_parameter_schema": declared.enforce_parameter_schema,
        "work_pool_name": declared.work_pool.name,
        "pull_steps": [],
        "job_variables": {},
    }
    return fields if declared.version is None else fields | {"version": declared.version}


def _create(client: SyncPrefectClient, flow_id: UUID, declared: DeclaredDeployment, fields: dict[str, Any]) -> None:
    client.create_deployment(
        flow_id,
        declared.name,
        **fields,
        tags=declared.tags,
        parameters=declared.parameters,
        work_queue_name=declared.work_pool.work_queue_name,
        schedules=[_new_schedule(schedule) for schedule in declared.schedules],
        concurrency_limit=declared.concurrency_limit,
    )


def _update(
    client: SyncPrefectClient,
    declared: DeclaredDeployment,
    own: dict[str, Any],
    before: DeploymentResponse,
    merge: Merge,
) -> bool:
    """Whether Prefect had to be changed."""
    fields = own | _settled_fields(declared, before, merge)
    update = DeploymentUpdate(**{"work_queue_name": before.work_queue_name} | fields)  # else a pool means its `default`
    told = update.model_dump(mode="json", exclude_unset=True, exclude={"concurrency_limit"})
    differs = "concurrency_limit" in fields or before.model_dump(mode="json", include=set(told)) != told
    if differs:
        client.update_deployment(before.id, update)
    # each by itself: with the deployment, Prefect would take those away that were made in the UI
    had = {schedule.slug: schedule for schedule in before.schedules if schedule.slug}
    for schedule in declared.schedules:
        differs |= _apply_schedule(client, before, schedule, had.get(schedule.slug), merge)
    for slug in _gone(had, merge):
        differs = True
        client.delete_deployment_schedule(before.id, had[slug].id)
    return differs


def _settled_fields(declared: DeclaredDeployment, before: DeploymentResponse, merge: Merge) -> dict[str, Any]:
    """The fields to write of those that a person may have set."""
    fields: dict[str, Any] = {}
    # the file's are there, whoever took them away; those that a person added stay
    former = set(merge.last.get("tags", ()))
    added = [tag for tag in before.tags if tag not in declared.tags and tag not in former and not merge.reset]
    if set(before.tags) != {*declared.tags, *added}:
        fields["tags"] = [*declared.tags, *added]
    if (settled := merge.settled_parameters("parameters", found=before.parameters)) != before.parameters:
        fields["parameters"] = settled
    limit = before.global_concurrency_limit
    if merge.follows("concurrency limit", found=limit.limit if limit else None):
        fields["concurrency_limit"] = declared.concurrency_limit
    queue = before.work_queue_name
    lost = before.work_pool_name != declared.work_pool.name or queue not in QUEUES  # no worker takes a run from there
    if lost or merge.follows("work queue", found=queue):
        fields["work_queue_name"] = declared.work_pool.work_queue_name
    return fields


def _apply_schedule(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    declared: DeclaredSchedule,
    had: DeploymentSchedule | None,
    merge: Merge,
) -> bool:
    """Whether Prefect had to be changed."""
    time, active, parameters = _setting_names(declared.slug)
    if had is None:
        if time in merge.last and not merge.reset:
            merge.kept.append(Kept(merge.deployment, f"schedule {declared.slug}", MISSING, declared.when))
            return False
        client.create_deployment_schedules(deployment.id, [_new_schedule(declared)])
        return True
    changes: dict[str, Any] = {}
    if merge.follows(time, found=had.schedule, same=is_when, words=when_of):
        changes["schedule"] = declared.schedule
    if merge.follows(active, found=had.active):
        changes["active"] = declared.active
    # in a run, what its schedule says comes before what its deployment says: also before what somebody set there
    own = merge.set_by_hand("parameters", found=deployment.parameters)
    if (settled := merge.settled_parameters(parameters, found=had.parameters, beneath=own)) != had.parameters:
        changes["parameters"] = settled
    if changes:
        now = {"active": had.active, "schedule": had.schedule, "parameters": had.parameters}
        client.update_deployment_schedule(deployment.id, had.id, **(now | changes))
    return bool(changes)


def _gone(had: Mapping[str, DeploymentSchedule], merge: Merge) -> list[str]:
    """The slugs of schedules that the file named and does not now, and that nobody has changed since."""
    found = []
    for slug, schedule in had.items():
        time, active, parameters = _setting_names(slug)
        if time in merge.declared or time not in merge.last:
            continue
        said = merge.last[active], given(merge.last[parameters])
        unchanged = (schedule.active, given(schedule.parameters)) == said
        if merge.reset or (unchanged and is_when(schedule.schedule, merge.last[time])):
            found.append(slug)
        else:
            merge.kept.append(Kept(merge.deployment, f"schedule {slug}", when_of(schedule.schedule), MISSING))
    return found


def _new_schedule(declared: DeclaredSchedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        slug=declared.slug,
        schedule=declared.schedule,
        active=declared.active,
        parameters=declared.parameters,
    )
