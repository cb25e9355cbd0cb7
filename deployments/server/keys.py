"""Idempotency keys: one run for one key of a kind, and an error for a request that is another one than then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.server.startable import Startable
from opsdb.errors import UsageError
from opsdb.runs.lookup import short_id
from opsdb.runs.sessions import session_of_tags

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


def run_of_key(client: SyncPrefectClient, startable: Startable, key: str) -> FlowRun | None:
    """The run of a kind that was started with a key, or None. A run that was deleted in Prefect has freed its key."""
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterId,
        FlowRunFilter,
        FlowRunFilterIdempotencyKey,
    )

    found = client.read_flow_runs(
        flow_filter=FlowFilter(id=FlowFilterId(any_=[startable.flow_id])),
        flow_run_filter=FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key])),
        limit=1,
    )
    return found[0] if found else None


def check_same_request(
    run: FlowRun,
    startable: Startable,
    *,
    key: str,
    params: Mapping[str, Any],
    priority: int,
    session_id: UUID | None,
) -> None:
    """Raise UsageError that names how a request differs from the run that its key started before."""
    wanted = {**startable.defaults, **params}
    if differs := list(_differences(run, startable, wanted=wanted, priority=priority, session_id=session_id)):
        raise UsageError(
            f"--idempotency-key {key!r} started run {short_id(run.id)} before, with {', '.join(differs)}: see "
            f"`ops show {short_id(run.id)}`, and use a new key for a new run"
        )


def _differences(
    run: FlowRun, startable: Startable, *, wanted: Mapping[str, Any], priority: int, session_id: UUID | None
) -> Iterator[str]:
    from opsdb.runs.prefect_runs import LANE_OF_POOL, priority_of

    lane = LANE_OF_POOL.get(run.work_pool_name or "")
    if run.deployment_id != startable.id:
        yield f"lane {lane} instead of {startable.lane}" if lane not in (None, startable.lane) else "another deployment"
    if others := sorted(
        name for name in wanted.keys() | run.parameters if _said(wanted, name) != _said(run.parameters, name)
    ):
        yield f"another value of -p {', -p '.join(others)}"
    if (had := priority_of(run)) != priority:
        yield f"priority {had} instead of {priority}"
    if (session := session_of_tags(run.tags)) != session_id:
        yield f"session {session}" if session else "no session"


def _said(values: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    return name in values, values.get(name)
