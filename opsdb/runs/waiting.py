"""Why a queued run has not started yet, as far as the ops database knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, case, exists, func, literal, or_, select, text, tuple_
from sqlmodel import col

from opsdb.runs.locks import holder_of
from opsdb.runs.lookup import RunView, is_postponed, list_runs
from opsdb.states import AWAITS_SLOT, RunStatus, State
from opsdb.tables import Run, RunState

WORKER_ONLINE = text(
    "SELECT EXISTS (SELECT FROM ops.workers WHERE lane = :lane"
    " AND heartbeat_at > clock_timestamp() - make_interval(secs => :seconds))"
)
_QUEUES = ("urgent", "high", "default", "low")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What stands between a queued run and its start."""

    due_at: datetime | None
    """Before when nobody starts it, while that is ahead."""
    worker_online: bool
    """Whether a worker serves its lane."""
    holders: list[RunView]
    """The runs that its lane executes, the newest first."""
    ahead: Mapping[str, int] = field(default_factory=dict)
    """How many runs wait in its lane and go first, by queue: those of a more urgent one, then what was due earlier."""
    overtaken_by: int = 0
    """How many runs of its lane were asked for after it was due, and went ahead of it."""
    approval: str | None = None
    """What it asks a person, and until when; None when it waits for none."""
    postponed: str | None = None
    """Until when it waits by its own choice, and why; None when that time has come."""
    held: str | None = None
    """What somebody set in Prefect that holds it, `Suspended` for instance; None when nobody did."""


def kept_waiting_by(db: Connection, run: Run) -> UUID | None:
    """The run that holds what a running run waits for; None when it waits for none."""
    if run.waits_for_resource is None or run.status is not RunStatus.RUNNING:
        return None
    holder = holder_of(db, run.waits_for_resource)
    return None if holder == run.id else holder


def why_waiting(db: Connection, view: RunView, *, online_seconds: float) -> Waiting:
    """What a queued run waits for. A worker counts as there that said so within the last `online_seconds`."""
    run = view.run
    latest = db.execute(select(RunState).where(col(RunState.id) == run.state_id)).one()
    online = db.scalar(WORKER_ONLINE, {"lane": run.lane, "seconds": online_seconds})
    holders = [
        holder
        for status in (RunStatus.CLAIMED, RunStatus.RUNNING)
        for holder in list_runs(db, lane=run.lane, status=status, limit=100)
    ]
    due_at = run.due_at or run.created_at
    state = State(id=run.state_id, at=run.state_at, type=latest.type, name=latest.name, message=latest.message)
    return Waiting(
        due_at=due_at if due_at > view.now else None,
        worker_online=bool(online),
        holders=holders,
        ahead=_ahead(db, view),
        overtaken_by=_overtaken_by(db, run),
        approval=state.message if state.waits_for_approval else None,
        held=state.name if state.held else None,
        postponed=state.message if state.postponed_until and state.postponed_until > view.now else None,
    )


def turn() -> tuple[Any, Any, Any]:
    """In which order the runs of a lane go: by its queues, see `queue_of`; in one queue goes first what was due first.

    The number of the queue, the time from which a run is due, and its id.
    """
    queue = case((col(Run.priority) > 10, 0), (col(Run.priority) > 0, 1), (col(Run.priority) == 0, 2), else_=3)
    return queue, func.coalesce(col(Run.due_at), col(Run.created_at)), col(Run.id)


def _ahead(db: Connection, view: RunView) -> dict[str, int]:
    run = view.run
    queue, due_at, run_id = turn()
    own = select(queue).where(col(Run.id) == run.id).scalar_subquery()
    waits_for_another = or_(col(RunState.type) == "PAUSED", col(RunState.name) == AWAITS_SLOT)
    counts = db.execute(
        select(queue, func.count())
        .where(
            col(Run.lane) == run.lane,
            col(Run.status) == RunStatus.QUEUED,
            col(Run.finished_at).is_(None),
            due_at <= view.now,
            ~exists().where(col(RunState.id) == col(Run.state_id), waits_for_another),
            tuple_(queue, due_at, run_id) < tuple_(own, literal(run.due_at or run.created_at), literal(run.id)),
        )
        .group_by(queue)
    )
    return {_QUEUES[number]: count for number, count in counts}


def _overtaken_by(db: Connection, run: Run) -> int:
    since = run.due_at or (run.created_at if run.attempt == 1 else run.state_at)
    later = (col(Run.lane) == run.lane, col(Run.created_at) > since, col(Run.claimed_at) > since)
    return db.scalar(select(func.count()).where(*later)) or 0


def read_set_later(db: Connection) -> list[Run]:
    """The queued runs that were due, and that somebody has set to start later; not those that postponed themselves."""
    rows = db.execute(
        select(Run)
        .join(RunState, col(RunState.id) == col(Run.state_id))
        .where(
            col(Run.finished_at).is_(None),
            col(Run.status) == RunStatus.QUEUED,
            col(Run.due_at) > func.greatest(col(Run.created_at), func.clock_timestamp()),
            ~func.coalesce(is_postponed(), False),
        )
        .order_by(col(Run.due_at))
        .limit(20)
    )
    return [Run(**row) for row in rows.mappings()]
