"""The marks by which others see that a worker lives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.tables import Lane, Worker

MARK_SECONDS = 5.0
"""How often a worker says that it lives."""
FORGOTTEN_AFTER = timedelta(days=1)


def note_worker(db: Connection, *, name: str, lanes: Sequence[Lane]) -> None:
    """Say that a worker serves these lanes now. Marks of workers that are long gone are deleted."""
    db.execute(delete(Worker).where(col(Worker.seen_at) < func.clock_timestamp() - FORGOTTEN_AFTER))
    db.execute(
        insert(Worker)
        .values([{"name": name, "lane": lane.value} for lane in lanes])
        .on_conflict_do_update(
            index_elements=[col(Worker.name), col(Worker.lane)], set_={"seen_at": func.clock_timestamp()}
        )
    )


def forget_worker(db: Connection, *, name: str) -> None:
    """A worker ends in order: nobody need miss it."""
    db.execute(delete(Worker).where(col(Worker.name) == name))
