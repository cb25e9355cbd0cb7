"""Runs that exclude each other: a lock is a row that names its holder, and ends with the holder's attempt.

An attempt is over when its run is, when its process recorded its outcome, which it does when nothing of it runs any
more, or when the run waits for another attempt, which must not keep others from the slot that it waits for itself.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, delete, select, text
from sqlmodel import col

from opsdb.tables import Run, RunLock

TAKE_RESOURCE = text("""
WITH ours AS (
    SELECT id, attempt FROM ops.runs
    WHERE id = :run_id AND attempt = :attempt AND finished_at IS NULL AND fenced_at IS NULL
), taken AS (
    INSERT INTO ops.run_locks AS lock (resource, run_id, attempt) SELECT :resource, id, attempt FROM ours
    ON CONFLICT (resource) DO UPDATE
        SET run_id = excluded.run_id, attempt = excluded.attempt, taken_at = clock_timestamp()
        WHERE lock.run_id = excluded.run_id
           -- what this statement's snapshot does not show yet must never look like an attempt that is over
           OR EXISTS (
               SELECT FROM ops.runs holder WHERE holder.id = lock.run_id AND (
                   holder.attempt > lock.attempt
                   OR holder.attempt = lock.attempt AND (holder.finished_at IS NOT NULL OR holder.outcome IS NOT NULL)
               )
           )
    RETURNING run_id
)
UPDATE ops.runs
SET deadline_at = clock_timestamp() + make_interval(secs => :deadline_seconds), waits_for_resource = NULL
FROM taken WHERE id = taken.run_id
""")
NOTE_WAITING = text("""
UPDATE ops.runs
SET deadline_at = clock_timestamp() + make_interval(secs => :deadline_seconds), waits_for_resource = :resource
WHERE id = :run_id AND attempt = :attempt AND finished_at IS NULL AND fenced_at IS NULL
  AND waits_for_resource IS DISTINCT FROM :resource
""")

# Whoever holds the resource, whoever holds what that one waits for, and so on; the youngest of a circle gives way.
GIVES_WAY = text("""
WITH RECURSIVE holding AS (
    SELECT lock.resource, run.id, run.waits_for_resource, run.created_at
    FROM ops.run_locks lock JOIN ops.runs run ON run.id = lock.run_id AND run.attempt = lock.attempt
    WHERE run.finished_at IS NULL AND run.outcome IS NULL
), chain AS (
    SELECT id, waits_for_resource, created_at FROM holding WHERE resource = :resource
    UNION SELECT next.id, next.waits_for_resource, next.created_at
    FROM chain JOIN holding next ON next.resource = chain.waits_for_resource
)
SELECT EXISTS (SELECT FROM chain ours WHERE ours.id = :run_id AND NOT EXISTS (
    SELECT FROM chain other WHERE (other.created_at, other.id) > (ours.created_at, ours.id)))
""")


def take_resource(db: Connection, *, resource: str, run_id: UUID, attempt: int, deadline_seconds: float) -> bool:
    """Take a resource for an attempt of a run, if nobody holds it; its deadline counts from now.

    False when another run's attempt holds it that is not over, and when the run is not recorded yet or no longer this
    process's. Who holds it already may take it again, and another one besides, in the order of decision 9. The end
    of the attempt releases it.
    """
    values = {"resource": resource, "run_id": run_id, "attempt": attempt, "deadline_seconds": deadline_seconds}
    return bool(db.execute(TAKE_RESOURCE, values).rowcount)


def note_waiting(db: Connection, *, resource: str, run_id: UUID, attempt: int, deadline_seconds: float) -> None:
    """Note that an attempt begins to wait for a resource, with a deadline that counts from now. Again: no change."""
    values = {"resource": resource, "run_id": run_id, "attempt": attempt, "deadline_seconds": deadline_seconds}
    db.execute(NOTE_WAITING, values)


def release_resource(db: Connection, *, resource: str, run_id: UUID, attempt: int) -> None:
    """Let others have a resource before the attempt ends that holds it. A resource that it does not hold stays as it
    is."""
    db.execute(
        delete(RunLock).where(
            col(RunLock.resource) == resource, col(RunLock.run_id) == run_id, col(RunLock.attempt) == attempt
        )
    )


def gives_way(db: Connection, *, resource: str, run_id: UUID) -> bool:
    """Whether whoever holds a resource waits in the end for what this run holds, which would wait for it in a circle.

    Of all in that circle, it is true for the one that was created last.
    """
    return bool(db.scalar(GIVES_WAY, {"resource": resource, "run_id": run_id}))


def holder_of(db: Connection, resource: str) -> UUID | None:
    """The run whose attempt holds a resource and is not over; None when whoever asks first may have it."""
    return db.scalar(
        select(col(RunLock.run_id))
        .join(Run, col(Run.id) == col(RunLock.run_id))
        .where(
            col(RunLock.resource) == resource,
            col(Run.attempt) == col(RunLock.attempt),
            col(Run.finished_at).is_(None),
            col(Run.outcome).is_(None),
        )
    )
