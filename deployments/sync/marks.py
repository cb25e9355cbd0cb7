"""What `ops sync` asks of the database and notes in it: how far it has come, and what it knows already."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.runs.runs import apply_states, facts_of_row
from opsdb.states import State
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


def known_states(db: Connection, run_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The latest state that is known of each of the runs."""
    rows = db.execute(select(col(Run.id), col(Run.state_id)).where(col(Run.id).in_(run_ids)))
    return {row.id: row.state_id for row in rows}


def unfinished_runs(db: Connection) -> list[UUID]:
    """The runs that are not over."""
    return list(db.scalars(select(col(Run.id)).where(col(Run.finished_at).is_(None))))


def mark_deleted(db: Connection, run_id: UUID) -> None:
    """Fail a run whose flow run was deleted in Prefect: nobody else will ever finish it."""
    run = db.execute(select(Run).where(col(Run.id) == run_id, col(Run.finished_at).is_(None))).one_or_none()
    if run is None:
        return
    now: datetime = db.execute(select(func.greatest(func.clock_timestamp(), run.state_at))).scalar_one()
    deleted = State(
        id=uuid5(run_id, "deleted"),
        at=now,
        type="CRASHED",
        name="Deleted",
        source="room",
        message="the flow run was deleted in Prefect before it ended",
    )
    apply_states(db, facts=facts_of_row(run), states=[deleted])
