"""Applies what Prefect needs to know: lanes, the deployments of prefect.yaml and of templates, types of blocks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.exceptions import ObjectNotFound

from blocks.block_types import register_block_types
from deployments.lane_worker import BASE_JOB_TEMPLATE, LaneWorker
from deployments.prefect_client import pages
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.prefect_runs import RUNBOOK_TAG
from opsdb.settings import Settings
from opsdb.tables import Lane
from opsdb.template_files import PACKAGE

TEMPLATE_TAG = "template"
QUEUES = ("urgent", "high", "default", "low")
"""In order of priority: Prefect serves a queue with a lower number first, from 1."""


@dataclass(frozen=True, slots=True)
class TemplateDeployment:
    """A template as Prefect shows it: its kind in one lane, or in all of them."""

    kind: str
    lane: Lane | None
    version: str


def deploy(
    settings: Settings, *, templates: Collection[TemplateDeployment], all_read: bool, say: Callable[[str], None]
) -> None:
    """Make or update the lanes, the deployments and the types of blocks. Repeating it changes nothing.

    Deployments of templates that are gone are removed, if `all_read`: else a file could not be read, and what it was
    is not known.

    Raises RoomUnreachableError when Prefect's API does not answer, OpsError when prefect.yaml can not be applied.
    """
    try:
        with get_client(sync_client=True) as client:
            for lane in Lane:
                _apply_lane(client, lane, limit=settings.lane_limit)
                say(f"lane {lane}: {settings.lane_limit} runs at once")
            with _parameters_of_schedules_kept(client):
                _apply_deployments(settings.prefect_yaml, templates)
            if all_read:
                for name in _remove_others(client, templates):
                    say(f"{name} removed: its template is gone")
        slugs = register_block_types()
    except httpx.HTTPStatusError as error:
        raise OpsError(f"Prefect refused the lanes or schedules: {str(error)[:1000]}") from error
    except httpx.HTTPError as error:
        raise RoomUnreachableError(f"Prefect's API does not answer ({error}): `ops status` tells what runs") from error
    say(f"deployments of {settings.prefect_yaml.name} applied")
    say(f"templates: {', '.join(sorted(template.kind for template in templates)) or 'none'}")
    say(f"block types registered: {', '.join(slugs)}")


def _apply_lane(client: SyncPrefectClient, lane: Lane, *, limit: int) -> None:
    description = f"Lane {lane} of the Ops Control Room. `ops deploy` writes its settings."
    try:
        client.read_work_pool(lane.pool)
        client.update_work_pool(
            lane.pool,
            WorkPoolUpdate(description=description, concurrency_limit=limit, base_job_template=BASE_JOB_TEMPLATE),
        )
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=lane.pool,
                type=LaneWorker.type,
                description=description,
                base_job_template=BASE_JOB_TEMPLATE,
                concurrency_limit=limit,
            )
        )
    for number, name in enumerate(QUEUES, start=1):
        try:
            queue = client.read_work_queue_by_name(name, work_pool_name=lane.pool)
        except ObjectNotFound:
            queue = client.create_work_queue(name, work_pool_name=lane.pool)
        if queue.priority != number:
            client.update_work_queue(queue.id, priority=number)


@contextmanager
def _parameters_of_schedules_kept(client: SyncPrefectClient) -> Iterator[None]:
    """What an operator set in the form of a schedule outlives `prefect deploy`, which empties it."""
    before = {schedule.id: schedule.parameters for _, schedule in _schedules(client)}
    try:
        yield
    finally:
        for deployment_id, schedule in _schedules(client):
            kept = before.get(schedule.id)
            if kept and not schedule.parameters:
                client.update_deployment_schedule(deployment_id, schedule.id, parameters=kept)


def _schedules(client: SyncPrefectClient) -> Iterator[tuple[UUID, DeploymentSchedule]]:
    """Of runbooks, each with the deployment that it belongs to."""
    runbooks = DeploymentFilter(tags=DeploymentFilterTags(all_=[RUNBOOK_TAG]))
    for deployment in pages(client.read_deployments, deployment_filter=runbooks):
        for schedule in deployment.schedules:
            yield deployment.id, schedule


def _apply_deployments(file: Path, templates: Collection[TemplateDeployment]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as whole:
        try:
            content = yaml.safe_load(file.read_text())
            content["deployments"] += [one for template in templates for one in deployments_of(template)]
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise OpsError(f"{file} could not be applied: {error}") from error
        yaml.safe_dump(content, whole)
        whole.flush()
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", whole.name],
            cwd=file.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise OpsError(f"{file} could not be applied:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def deployments_of(template: TemplateDeployment) -> Iterator[dict[str, object]]:
    """As prefect.yaml would name them."""
    for lane in [template.lane] if template.lane else Lane:
        yield {
            "name": lane.pool,
            "version": template.version,
            "tags": [RUNBOOK_TAG, TEMPLATE_TAG],
            "enforce_parameter_schema": True,
            "work_pool": {"name": lane.pool, "work_queue_name": "default"},
            "entrypoint": f"{PACKAGE}.{template.kind}",
        }


def _remove_others(client: SyncPrefectClient, templates: Collection[TemplateDeployment]) -> list[str]:
    """Remove the deployments of templates that no longer are there. Returns their names."""
    wanted = {(str(one["entrypoint"]), str(one["name"])) for template in templates for one in deployments_of(template)}
    made = DeploymentFilter(tags=DeploymentFilterTags(all_=[RUNBOOK_TAG, TEMPLATE_TAG]))
    removed = []
    for deployment in list(pages(client.read_deployments, deployment_filter=made)):
        entrypoint = deployment.entrypoint or ""
        if entrypoint.startswith(f"{PACKAGE}.") and (entrypoint, deployment.name) not in wanted:
            client.delete_deployment(deployment.id)
            removed.append(f"{entrypoint.removeprefix(f'{PACKAGE}.')} in {deployment.name}")
    return removed
