"""What Prefect calls a flow run, in the room's own terms."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.objects import State as PrefectState

from opsdb.runs.runs import RunFacts
from opsdb.runs.sessions import session_of_tags, tag_of
from opsdb.states import AWAITS_SLOT, State
from opsdb.tables import Lane

RUNBOOK_TAG = "runbook"
PRIORITY_TAG = "priority:"
LANE_OF_POOL = {lane.pool: lane for lane in Lane}
PRIORITY_OF_QUEUE = {"urgent": 20, "high": 10, "default": 0, "low": -10}
"""The priority of a run that names none: it was put into a queue by hand."""


def queue_of(priority: int) -> str:
    """The queue of a lane for that priority: higher is more urgent."""
    if priority > 10:
        return "urgent"
    if priority > 0:
        return "high"
    return "default" if priority == 0 else "low"


def tags_of(*, priority: int, session_id: UUID | None) -> list[str]:
    """What a flow run carries so that `facts_of` finds its priority and its session."""
    return [f"{PRIORITY_TAG}{priority}"] + ([tag_of(session_id)] if session_id else [])


def priority_of(flow_run: FlowRun) -> int:
    """The priority that its tags name, or that of its queue."""
    for tag in flow_run.tags:
        number = tag.removeprefix(PRIORITY_TAG)
        if number != tag and number.lstrip("-").isdecimal():
            return max(-1000, min(1000, int(number)))
    return PRIORITY_OF_QUEUE.get(flow_run.work_queue_name or "", 0)


def facts_of(flow_run: FlowRun, *, kind: str) -> RunFacts | None:
    """What does not change in the life of the run, or None when it is not a runbook in a lane."""
    lane = LANE_OF_POOL.get(flow_run.work_pool_name or "")
    if lane is None or RUNBOOK_TAG not in flow_run.tags:
        return None
    return RunFacts(
        id=flow_run.id,
        kind=kind,
        name=flow_run.name,
        lane=lane,
        priority=priority_of(flow_run),
        session_id=session_of_tags(flow_run.tags),
        params=flow_run.parameters,
        created_at=_created_at(flow_run),
        tick=flow_run.idempotency_key if flow_run.auto_scheduled else None,
    )


def state_of(state: PrefectState) -> State:
    """A state as Prefect's server gave it: with its id and its times."""
    return State(
        id=state.id,
        at=state.timestamp,
        type=state.type.value,
        name=state.name or "",
        message=state.message,
        due_at=state.state_details.scheduled_time if state.is_scheduled() and state.name != AWAITS_SLOT else None,
    )


def _created_at(flow_run: FlowRun) -> datetime:
    """When it was asked for. What a schedule or a person planned ahead is asked for when it is due."""
    made = flow_run.created or datetime.now(UTC)
    due = flow_run.expected_start_time or made
    return due if flow_run.auto_scheduled else max(made, due)
