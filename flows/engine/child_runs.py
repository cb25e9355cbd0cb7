"""Runs that a run starts: of a deployment in a lane, once under a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flows.engine.active_run import current_run
from opsdb.database import first_line
from opsdb.errors import RoomUnreachableError, StepFailedError
from opsdb.kinds.names import deployment_name
from opsdb.kinds.subjects import name_of_run
from opsdb.runs.lookup import reading, short_id
from opsdb.runs.origins import started_by_run
from opsdb.runs.prefect_runs import queue_of, tags_of
from opsdb.tables import Lane


class NotStartedError(StepFailedError):
    """Prefect started no run; at the next try it may."""


def start_child_run(
    client: SyncPrefectClient,
    *,
    starter: str,
    kind: str,
    lane: Lane,
    parameters: Mapping[str, Any],
    priority: int,
    session_id: UUID | None,
    key: str,
) -> FlowRun:
    """Start a run of a kind, or find the one that was started under this key. `starter` is the kind of the current run.

    Raises NotStartedError when Prefect refuses, or does not answer.
    """
    database = parameters.get("odoo_db", kind)
    try:
        deployment = client.read_deployment_by_name(f"{kind}/{deployment_name(kind, lane.pool)}")
        return client.create_flow_run_from_deployment(
            deployment.id,
            name=_name_of(kind, parameters),
            parameters=dict(parameters),
            tags=tags_of(priority=priority, session_id=session_id),
            work_queue_name=queue_of(priority),
            idempotency_key=key,
            state=Scheduled(message=started_by_run(short_id(current_run().id), starter)),
        )
    except ObjectNotFound:
        raise NotStartedError(
            f"{database}: {kind} is not deployed to lane {lane}: `ops deploy` puts it there"
        ) from None
    except httpx.HTTPError as error:
        raise NotStartedError(f"{database}: Prefect started no run of {kind}: {first_line(error)}") from error


def _name_of(kind: str, parameters: Mapping[str, Any]) -> str | None:
    """What it is called; None where that is left to the sync, for the database does not answer."""
    try:
        with reading(current_run().settings) as db:
            return name_of_run(db, kind, parameters)
    except RoomUnreachableError:
        return None
