"""Runs that exclude each other: a lock is a row that names its holder, and ends with the holder's run."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.tables import Run, RunLock


def take(db: Connection, *, resource: str, run_id: UUID, attempt: int, deadline_seconds: float) -> bool:
    """Take a resource for an attempt of a run, if nobody holds it; its deadline counts from now.

    False when another run holds it that is not over, and when the run is not recorded yet or no longer this
    process's. Who holds it already may take it again. Nothing releases it but the end of the run.
    """
    ours = [
        col(Run.id) == run_id,
        col(Run.attempt) == attempt,
        col(Run.finished_at).is_(None),
        col(Run.fenced_at).is_(None),
    ]
    wanted = insert(RunLock).from_select(
        ["resource", "run_id", "attempt"], select(literal(resource), col(Run.id), col(Run.attempt)).where(*ours)
    )
    over = select(col(Run.id)).where(col(Run.id) == col(RunLock.run_id), col(Run.finished_at).is_not(None)).exists()
    taken = db.execute(
        wanted.on_conflict_do_update(
            index_elements=[col(RunLock.resource)],
            set_={
                "run_id": wanted.excluded.run_id,
                "attempt": wanted.excluded.attempt,
                "taken_at": func.clock_timestamp(),
            },
            where=(col(RunLock.run_id) == run_id) | over,
        ).returning(col(RunLock.resource))
    ).one_or_none()
    if taken is None:
        return False
    db.execute(
        update(Run)
        .where(*ours)
        .values(deadline_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, deadline_seconds))
    )
    return True


def holder_of(db: Connection, resource: str) -> UUID | None:
    """The run that holds a resource and is not over; None when whoever asks first may have it."""
    return db.scalar(
        select(col(RunLock.run_id))
        .join(Run, col(Run.id) == col(RunLock.run_id))
        .where(col(RunLock.resource) == resource, col(Run.finished_at).is_(None))
    )
