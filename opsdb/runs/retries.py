"""Which runs that died the room itself tries again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlmodel import col

from opsdb.runs.runs import recorded_states
from opsdb.states import NOT_TRIED_AGAIN, REQUEUE_WITHIN, RESUMING, Life, RunStatus, fold
from opsdb.tables import Run, RunState, Session

ATTEMPTS_TO_START = 3


@dataclass(frozen=True, kw_only=True)
class Retry:
    """A run that died, and that is tried again."""

    run_id: UUID
    state_id: UUID
    """The state with which its latest attempt ended."""
    attempt: int
    """The attempt that died."""
    name: str
    """How the Scheduled state is called with which the next one begins."""
    told: bool
    """Whether Prefect knows of the death."""
    now: datetime


def read_retries(db: Connection, *, run_id: UUID | None = None) -> list[Retry]:
    """Runs that died, whose processes are known to be gone, and that may be tried again: their session still runs.

    Whether a kind may be repeated matters once a run has started: before, it had no effect, and resumes where it was to
    resume. What never was claimed had no process that could die.
    """
    unborn = col(Run.started_at).is_(None) & col(Run.claimed_at).is_not(None)
    rows = db.execute(
        select(
            col(Run.id),
            col(Run.state_id),
            col(Run.attempt),
            col(Run.max_attempts),
            col(RunState.source),
            func.clock_timestamp().label("now"),  # Prefect compares it with its clock, which ours may not be
        )
        .join(RunState, col(Run.state_id) == col(RunState.id))
        .join(Session, col(Run.session_id) == col(Session.id))
        .where(
            col(Session.status) != "cancelled",
            col(Run.status) == RunStatus.FAILED,
            col(Run.deleted_at).is_(None),  # Prefect has nothing to begin again
            (col(Run.max_attempts) > 1) | unborn,
            col(Run.updated_at) > func.clock_timestamp() - REQUEUE_WITHIN,
            col(RunState.type) == "CRASHED",
            col(RunState.name).not_in(NOT_TRIED_AGAIN),
            col(Run.fenced_at).is_(None) | col(Run.reaped_at).is_not(None),
            *([] if run_id is None else [col(Run.id) == run_id]),
        )
    )
    found = []
    for row in rows.all():
        life = fold(recorded_states(db, run_id=row.id))
        if _left(life, row.max_attempts) > 0:
            name = RESUMING if life.continues and life.started_at is None else "AwaitingRetry"
            retry = Retry(
                run_id=row.id,
                state_id=row.state_id,
                attempt=row.attempt,
                name=name,
                told=row.source == "prefect",
                now=row.now,
            )
            found.append(retry)
    return found


def read_tries_left(db: Connection, run_id: UUID) -> int:
    """How often the room would try a run again, once it died: that it is dead already counts, too.

    0 where its end is of a kind after which nothing is tried again, or somebody cancelled its session.
    """
    row = db.execute(
        select(col(Run.max_attempts), col(Run.fence_reason), col(Run.deleted_at), col(Session.status))
        .join(Session, col(Run.session_id) == col(Session.id))
        .where(col(Run.id) == run_id)
    ).one_or_none()
    if row is None or row.deleted_at is not None or row.status == "cancelled" or row.fence_reason in NOT_TRIED_AGAIN:
        return 0
    life = fold(recorded_states(db, run_id=run_id))
    if life.end is not None and (life.end.type != "CRASHED" or life.end.name in NOT_TRIED_AGAIN):
        return 0
    return max(0, _left(life, row.max_attempts) - (life.end is None))


def _left(life: Life, max_attempts: int) -> int:
    """How many deaths it may yet have before the last."""
    return (max_attempts if life.started_at else ATTEMPTS_TO_START) - life.crashes
