"""Which kinds can be started, and in which lanes: the deployments that Prefect's server has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.server.client import runbook_deployments
from opsdb.errors import UsageError
from opsdb.kinds.kinds import switch_of
from opsdb.kinds.names import deployment_name
from opsdb.near_names import did_you_mean
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
    description: str
    schema: dict[str, Any]
    defaults: dict[str, Any]
    entrypoint: str = ""
    paused: bool = False
    """Whether it is paused in Prefect: its schedules start nothing, and what is started by hand runs."""
    zones: dict[UUID, str] = field(default_factory=dict)
    """Whose clocks each schedule of the kind follows, by its id."""


def find_startable(client: SyncPrefectClient, *, kind: str, lane: Lane) -> Startable:
    """The deployment of a kind in a lane. Raises UsageError that names the kinds that exist."""
    found = all_startable(client)
    if kind not in found:
        raise unknown_kind(kind, list(found))
    if lane not in found[kind]:
        there = ", ".join(sorted(found[kind]))
        raise UsageError(
            f"{kind} is not deployed to lane {lane}, but to {there}: give it as --lane. Where somebody deleted the "
            f"work pool {lane.pool} or the deployment in Prefect, `ops deploy` makes it again"
        )
    return found[kind][lane]


def all_startable(client: SyncPrefectClient) -> dict[str, dict[Lane, Startable]]:
    """The kinds, each with the lanes that it is deployed to.

    A kind has one deployment in each lane, named like both, or a single one with a schedule of its own.
    """
    from opsdb.runs.prefect_runs import LANE_OF_POOL

    found: dict[str, dict[Lane, Startable]] = {}
    zones: dict[str, dict[UUID, str]] = {}
    for kind, deployment in runbook_deployments(client):
        lane = LANE_OF_POOL.get(deployment.work_pool_name or "")
        if lane is None:
            continue
        lanes = found.setdefault(kind, {})
        zones.setdefault(kind, {}).update(
            {one.id: getattr(one.schedule, "timezone", None) or "UTC" for one in deployment.schedules}
        )
        if deployment.name == deployment_name(kind, lane.pool) or lane not in lanes:
            lanes[lane] = Startable(
                id=deployment.id,
                flow_id=deployment.flow_id,
                kind=kind,
                lane=lane,
                description=deployment.description or "",
                schema=dict(deployment.parameter_openapi_schema or {}),
                defaults=dict(deployment.parameters or {}),
                entrypoint=deployment.entrypoint or "",
                paused=deployment.paused,
                zones=zones[kind],
            )
    return found


def unknown_kind(kind: str, kinds: list[str]) -> UsageError:
    """The error that says which kinds there are, or how to switch on the one that is meant."""
    if switch := switch_of(kind):
        return UsageError(
            f"KIND: {kind} is switched off in this room. Hint: set {switch}=true where the room starts, and start it "
            f"again; `docs/settings.md` says what {switch} allows"
        )
    if not kinds:
        return UsageError(f"KIND: {kind!r} is not deployed, nor is any other runbook: `ops deploy` deploys them")
    return UsageError(f"KIND: no runbook {kind!r}.{did_you_mean(kind, kinds)} There are: {', '.join(sorted(kinds))}")
