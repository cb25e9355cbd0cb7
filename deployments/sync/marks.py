"""What `ops sync` asks of the database and notes in it: how far it has come, and what it knows already."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.runs.runs import RunFacts, facts_of_row, recorded_states
from opsdb.states import State, fold
from opsdb.tables import Run, SyncMark
from opsdb.watch import Mark, keep_watch

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def read_watermark(db: Connection) -> datetime:
    """The time up to which every run that ended is known."""
    return db.scalar(select(col(SyncMark.at)).where(col(SyncMark.name) == Mark.SYNC)) or BEGINNING


def write_watermark(db: Connection, at: datetime, *, outage_seconds: float) -> None:
    """Note how far the sync has come, and that both it and Prefect answer. The watermark never goes back."""
    keep_watch(db, Mark.PREFECT, outage_seconds=outage_seconds)
    made = insert(SyncMark).values(name=Mark.SYNC, at=at)
    db.execute(
        made.on_conflict_do_update(
            index_elements=[col(SyncMark.name)],
            set_={"at": func.greatest(col(SyncMark.at), made.excluded.at), "updated_at": func.clock_timestamp()},
        )
    )


def known_runs(db: Connection, run_ids: Sequence[UUID]) -> dict[UUID, tuple[UUID, str | None]]:
    """The latest state, and the name, that is known of each of the runs."""
    rows = db.execute(select(col(Run.id), col(Run.state_id), col(Run.name)).where(col(Run.id).in_(run_ids)))
    return {row.id: (row.state_id, row.name) for row in rows}


def known_facts(db: Connection, run_id: UUID) -> RunFacts | None:
    """What is recorded of a run that Prefect shows in no lane any more: its pool, or its tag, was taken from it."""
    run = db.execute(select(Run).where(col(Run.id) == run_id)).one_or_none()
    return facts_of_row(run) if run is not None else None


def is_surprising(db: Connection, run_id: UUID, state: State) -> bool:
    """Whether a state does not follow from what is recorded: another one between them was missed, or somebody set it
    by hand. The whole history shows which."""
    known = recorded_states(db, run_id=run_id)
    if not known:
        return False
    life = fold([*known, state])
    unborn = state.status.terminal and life.started_at is None
    return unborn or any(one.state.id == state.id for one in life.disregarded)


def unfinished_runs(db: Connection) -> list[UUID]:
    """The runs that are not over."""
    return list(db.scalars(select(col(Run.id)).where(col(Run.finished_at).is_(None))))
