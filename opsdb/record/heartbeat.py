"""How an attempt stands with its run, by the database: the one look that also writes its heartbeat."""

from __future__ import annotations

from enum import Enum
from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlmodel import col

from opsdb.tables import Run, RunState


class Standing(Enum):
    """How a run process stands with its run."""

    OURS = "ours"
    CANCELLING = "to be cancelled"
    TAKEN = "over, fenced, or begun anew elsewhere"


def look(db: Connection, *, run_id: UUID, attempt: int, beating: bool) -> Standing:
    """See how an attempt stands, and write its heartbeat while it is ours."""
    row = db.execute(
        select(col(Run.attempt), col(Run.finished_at), col(Run.fenced_at), col(RunState.type))
        .join(RunState, col(Run.state_id) == col(RunState.id))
        .where(col(Run.id) == run_id)
    ).one_or_none()
    if row is None or row.attempt < attempt:
        return Standing.OURS  # not all of it is here yet, so nobody took it from us
    if row.attempt > attempt:
        return Standing.TAKEN
    unfenced = [col(Run.id) == run_id, col(Run.finished_at).is_(None), col(Run.fenced_at).is_(None)]
    beat = update(Run).where(*unfenced, col(Run.attempt) == attempt).values(heartbeat_at=func.clock_timestamp())
    if row.finished_at or row.fenced_at or (beating and not db.execute(beat).rowcount):
        return Standing.TAKEN
    return Standing.CANCELLING if row.type == "CANCELLING" else Standing.OURS
