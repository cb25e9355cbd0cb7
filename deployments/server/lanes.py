"""Applies what Prefect needs to know: lanes, the deployments of prefect.yaml and of templates, types of blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from blocks.block_types import register_block_types
from deployments.server.applied import apply_deployments, remove_others
from deployments.server.wanted import QUEUES, TemplateDeployment, load_deployments
from deployments.worker.lane_worker import BASE_JOB_TEMPLATE, LaneWorker
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.settings import Settings
from opsdb.tables import Lane


def deploy(
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
                for name in remove_others(client, templates):
                    say(f"{name} removed: its template is gone")
        slugs = register_block_types()
    except httpx.HTTPStatusError as error:
        raise OpsError(f"Prefect refused the lanes or schedules: {str(error)[:1000]}") from error
    except httpx.HTTPError as error:
        raise RoomUnreachableError(f"Prefect's API does not answer ({error}): `ops status` tells what runs") from error
    as_they_were = len(loaded) - len(written)
    say(f"deployments: {len(written)} written, {as_they_were} as they were before")
    say(f"templates: {', '.join(sorted(template.kind for template in templates)) or 'none'}")
    say(f"block types registered: {', '.join(slugs)}")


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
