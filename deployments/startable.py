"""Which kinds can be started, and in which lanes: the deployments that Prefect's server has."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.prefect_client import pages
from opsdb.errors import UsageError
from opsdb.tables import Lane

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@dataclass(frozen=True, kw_only=True)
class Startable:
    """A kind in a lane, ready to be started. `defaults` are the parameters that the deployment itself sets."""

    id: UUID
    flow_id: UUID
    kind: str
    lane: Lane
    schema: dict[str, Any]
    defaults: dict[str, Any]


def find_startable(client: SyncPrefectClient, *, kind: str, lane: Lane) -> Startable:
    """The deployment of a kind in a lane. Raises UsageError that names the kinds that exist."""
    deployed = _deployed_to(client)
    if kind not in deployed:
        raise UsageError(_unknown_kind(kind, sorted(deployed)))
    name = deployed[kind].get(lane)
    if name is None:
        there = ", ".join(sorted(deployed[kind]))
        raise UsageError(f"{kind} is not deployed to lane {lane}, but to {there}: give it as --lane")
    found = client.read_deployment_by_name(f"{kind}/{name}")
    return Startable(
        id=found.id,
        flow_id=found.flow_id,
        kind=kind,
        lane=lane,
        schema=dict(found.parameter_openapi_schema or {}),
        defaults=dict(found.parameters or {}),
    )


def _deployed_to(client: SyncPrefectClient) -> dict[str, dict[Lane, str]]:
    """The kinds, each with the lanes that it is deployed to and its deployment's name there.

    A kind has one deployment in each lane, named like the lane's pool, or a single one with a schedule of its own.
    """
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    from opsdb.prefect_runs import LANE_OF_POOL, RUNBOOK_TAG

    runbooks = DeploymentFilter(tags=DeploymentFilterTags(all_=[RUNBOOK_TAG]))
    found: dict[str, dict[Lane, str]] = {}
    names = {flow.id: flow.name for flow in pages(client.read_flows, deployment_filter=runbooks)}
    for deployment in pages(client.read_deployments, deployment_filter=runbooks):
        lane = LANE_OF_POOL.get(deployment.work_pool_name or "")
        if lane is not None and deployment.flow_id in names:
            lanes = found.setdefault(names[deployment.flow_id], {})
            if deployment.name == lane.pool or lane not in lanes:
                lanes[lane] = deployment.name
    return found


def _unknown_kind(kind: str, kinds: list[str]) -> str:
    if not kinds:
        return f"KIND: {kind!r} is not deployed, nor is any other runbook: `ops deploy` deploys them"
    close = difflib.get_close_matches(kind, kinds, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"KIND: no runbook {kind!r}.{meant} There are: {', '.join(kinds)}"
