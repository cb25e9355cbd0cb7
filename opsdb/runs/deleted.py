"""Runs that somebody deleted in Prefect before they were over: from then on their record alone says what they do.

A run that waits is cancelled, for no worker will be offered it. A run that runs continues, and its end is recorded
here. Of two for the same due time of a schedule, of which one was deleted before it began, that one is nothing at all.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.runs.lookup import short_id
from opsdb.runs.runs import apply_states, facts_of_row
from opsdb.states import FenceReason, RunStatus, State
from opsdb.tables import Run, RunEvent

NAME = "Deleted"
"""How the state is called with which a run ends that was deleted before it began."""
WAITED = "deleted in Prefect while it waited"
TICK_WAITED = "deleted in Prefect before it began: by hand, or since its schedule was paused, changed or deleted"
GOES_ON = "deleted in Prefect while it ran: it keeps running; its end is recorded here only. `ops cancel {run}` ends it"
CLAIMED = "deleted in Prefect after {worker} had claimed it"
NEVER_BEGAN = "deleted in Prefect before it began: nothing of it ran"

FORGET_TWINS = text("""
DELETE FROM ops.runs r
WHERE r.deleted_at > clock_timestamp() - interval '1 day' AND r.tick IS NOT NULL
      AND r.status = 'cancelled' AND r.started_at IS NULL AND r.attempt = 1
      AND EXISTS (
        SELECT FROM ops.runs twin
        WHERE twin.created_at = r.created_at AND twin.id <> r.id AND twin.tick IS NOT NULL
              AND (twin.tick = r.tick
                   -- the schedule itself may have been made again
                   OR (twin.kind = r.kind AND twin.lane = r.lane AND twin.params = r.params))
              AND (twin.deleted_at IS NULL OR twin.started_at IS NOT NULL))
""")


def note_deleted(db: Connection, run_id: UUID) -> None:
    """Note that Prefect does not have a run any more. Repeating it changes nothing."""
    run = db.execute(select(Run).where(col(Run.id) == run_id).with_for_update()).one_or_none()
    if run is None or run.deleted_at is not None:
        return
    db.execute(update(Run).where(col(Run.id) == run_id).values(deleted_at=func.clock_timestamp()))
    if run.finished_at is not None:
        return
    message = GOES_ON.format(run=short_id(run_id))
    if run.status == RunStatus.QUEUED:
        message = TICK_WAITED if run.tick else WAITED
        _end(db, run, type_="CANCELLED", name=NAME, message=message)
    elif run.status == RunStatus.CLAIMED:
        message = CLAIMED.format(worker=run.claimed_by or "a worker")
    level = "info" if run.status == RunStatus.QUEUED else "warning"
    event = {"id": uuid5(run_id, "deleted event"), "run_id": run_id, "level": level, "message": message, "data": {}}
    db.execute(insert(RunEvent).values(event).on_conflict_do_nothing())


def end_deleted(db: Connection, *, run_id: UUID, attempt: int, type_: str, name: str, message: str | None) -> None:
    """Record how an attempt ended whose end cannot be reported to Prefect; nothing when it is over, or was taken from
    its process. A run that never began is cancelled."""
    note_deleted(db, run_id)
    run = db.execute(select(Run).where(col(Run.id) == run_id).with_for_update()).one_or_none()
    if run is None or run.finished_at is not None or run.attempt != attempt or run.fenced_at is not None:
        return
    if run.started_at is None:
        type_, name, message = "CANCELLED", NAME, NEVER_BEGAN
    _end(db, run, type_=type_, name=name, message=message)


def cancel_deleted(db: Connection, *, run_id: UUID, by: str) -> bool:
    """End a run of which Prefect knows nothing: its process finds that it was taken from it. False when it is over.

    `by` says who did, as in `cancelled by ben with ...`: no state of Prefect's says it.
    """
    note_deleted(db, run_id)
    fenced = db.execute(
        update(Run)
        .where(col(Run.id) == run_id, col(Run.finished_at).is_(None), col(Run.outcome).is_(None))
        .values(
            fenced_at=func.coalesce(col(Run.fenced_at), func.clock_timestamp()),
            fence_reason=func.coalesce(col(Run.fence_reason), FenceReason.CANCELLED.value),
        )
    )
    if fenced.rowcount:
        event = {"id": uuid5(run_id, "cancelled without Prefect"), "run_id": run_id, "level": "info", "message": by}
        db.execute(insert(RunEvent).values(event | {"data": {}}).on_conflict_do_nothing())
    return bool(fenced.rowcount)


def unfinished_deleted(db: Connection, session_id: UUID) -> list[UUID]:
    """The runs of a session that continue though Prefect does not have them any more."""
    wanted = col(Run.session_id) == session_id, col(Run.finished_at).is_(None), col(Run.deleted_at).is_not(None)
    return list(db.scalars(select(col(Run.id)).where(*wanted)))


def forget_twins(db: Connection) -> None:
    """Remove runs that a schedule planned, that were deleted before they began, and that were planned again."""
    db.execute(FORGET_TWINS)


def ended_at(db: Connection, run: Row[Any]) -> datetime:
    """When a run ended of which Prefect says nothing any more: as its process recorded, else now."""
    now: datetime = run.outcome_at or db.execute(select(func.clock_timestamp())).scalar_one()
    after: datetime = run.state_at + timedelta(microseconds=1)
    return max(now, after)


def _end(db: Connection, run: Row[Any], *, type_: str, name: str, message: str | None) -> None:
    end = State(
        id=uuid5(run.state_id, name), at=ended_at(db, run), type=type_, name=name, message=message, source="room"
    )
    apply_states(db, facts=facts_of_row(run), states=[end])
