"""How an attempt of a run stands, by the database: for its process, which keeps its heartbeat, and for its worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, update
from sqlmodel import col

from opsdb.progress import Progress
from opsdb.tables import Run, RunState, RunStep, StepStatus


class AttemptStatus(Enum):
    """How a run process stands with its run."""

    UNKNOWN = "not all of it is recorded yet, so nobody took it from us"
    OURS = "ours"
    CANCELLING = "to be cancelled"
    TAKEN = "over, fenced, or another attempt has begun"


@dataclass(frozen=True)
class Ending:
    """What is recorded of an attempt that its worker saw end."""

    taken: bool
    """It was fenced, is over, or another attempt has begun: its worker may not change it any more."""
    outcome: str | None
    message: str | None


def read_attempt_status(db: Connection, *, run_id: UUID, attempt: int) -> AttemptStatus:
    """How an attempt stands now."""
    return _read_run(db, run_id, attempt)[0]


def write_heartbeat(
    db: Connection, *, run_id: UUID, attempt: int, progress: Mapping[int, Progress | None] | None = None
) -> AttemptStatus:
    """Write the heartbeat of an attempt while it is ours, and how far its running steps are. Returns how it stands.

    `progress` has steps by their index; None where it is not known any more.
    """
    status = read_attempt_status(db, run_id=run_id, attempt=attempt)
    if status not in (AttemptStatus.OURS, AttemptStatus.CANCELLING):
        return status
    ours = [col(Run.id) == run_id, col(Run.attempt) == attempt]
    unfenced = [col(Run.finished_at).is_(None), col(Run.fenced_at).is_(None)]
    beat = update(Run).where(*ours, *unfenced).values(heartbeat_at=func.clock_timestamp())
    if not db.execute(beat).rowcount:
        return AttemptStatus.TAKEN  # since we read it
    for index, now in (progress or {}).items():
        step = update(RunStep).filter_by(run_id=run_id, attempt=attempt, index=index, status=StepStatus.RUNNING)
        db.execute(step.values(progress=now and now.columns))
    return status


def read_ending(db: Connection, *, run_id: UUID, attempt: int) -> Ending:
    """What a worker must know before it says how an attempt ended."""
    status, row = _read_run(db, run_id, attempt, col(Run.outcome), col(Run.error))
    if row is None or status is AttemptStatus.UNKNOWN:
        return Ending(taken=False, outcome=None, message=None)
    taken = status is AttemptStatus.TAKEN
    return Ending(taken=taken, outcome=row.outcome, message=(row.error or {}).get("message"))


def _read_run(db: Connection, run_id: UUID, attempt: int, *columns: Any) -> tuple[AttemptStatus, Row[Any] | None]:
    """How the attempt stands, and the row that says so, with these columns: one statement, for one moment."""
    row = db.execute(
        select(col(Run.attempt), col(Run.finished_at), col(Run.fenced_at), col(RunState.type), *columns)
        .join(RunState, col(Run.state_id) == col(RunState.id))
        .where(col(Run.id) == run_id)
    ).one_or_none()
    if row is None or row.attempt < attempt:
        return AttemptStatus.UNKNOWN, row
    if row.attempt > attempt or row.finished_at or row.fenced_at:
        return AttemptStatus.TAKEN, row
    return AttemptStatus.CANCELLING if row.type == "CANCELLING" else AttemptStatus.OURS, row
