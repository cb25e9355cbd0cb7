"""The record of what was deleted: one row for each pass, written while it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, text, update
from sqlmodel import col

from opsdb.retention.amounts import Amounts
from opsdb.retention.tables import Prune
from opsdb.settings import Settings

EVERY = timedelta(days=1)
AGAIN = timedelta(hours=1)
"""How long after the beginning of a pass that did not come to its end the room begins the next one."""
OVERDUE = 2 * EVERY
"""When one that is due each day has not ended for so long, something keeps it from its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPrune:
    """The newest pass of the room itself that came to its end."""

    finished_at: datetime
    age: timedelta
    deleted: dict[str, Any]


def begin_prune(db: Connection, *, by: Literal["room", "person"]) -> int:
    """Note that a pass begins. Returns its number."""
    made = insert(Prune).values(started_by=by).returning(col(Prune.id))
    return int(db.execute(made).scalar_one() or 0)


def note_deleted_so_far(db: Connection, number: int, deleted: Amounts) -> None:
    """Note all that a pass has deleted: in the transaction that deletes, where that is in this database."""
    db.execute(
        text("UPDATE ops.prunes SET deleted = CAST(:deleted AS jsonb) WHERE id = :id"),
        {"deleted": json.dumps(deleted.document()), "id": number},
    )


def end_prune(db: Connection, number: int) -> None:
    """Note that a pass came to its end."""
    db.execute(update(Prune).where(col(Prune.id) == number).values(finished_at=func.clock_timestamp()))


def read_last(db: Connection) -> LastPrune | None:
    """The newest pass of the room that came to its end, or the making of the room; None where there is neither.

    A person's pass does not count, nor one that cron starts on another host: that leaves the files of this one.
    """
    age = func.clock_timestamp() - col(Prune.finished_at)
    ended = select(col(Prune.finished_at), age.label("age"), col(Prune.deleted)).where(
        col(Prune.finished_at).is_not(None), col(Prune.started_by) != "person"
    )
    row = db.execute(ended.order_by(col(Prune.finished_at).desc()).limit(1)).one_or_none()
    return None if row is None else LastPrune(finished_at=row.finished_at, age=row.age, deleted=row.deleted)


def is_switched_on(db: Connection, settings: Settings) -> bool:
    """Whether the room prunes by itself: as OPS_PRUNE says, else when it was made so."""
    if settings.prune is not None:
        return settings.prune
    made = select(col(Prune.id)).where(col(Prune.started_by) == "installation")
    return db.scalar(select(made.exists())) is True


def is_due(db: Connection, settings: Settings) -> bool:
    """Whether the room is to prune now: a day after its last pass ended, and an hour after the last one began."""
    last = read_last(db)
    if not is_switched_on(db, settings) or (last is not None and last.age < EVERY):
        return False
    lately = col(Prune.started_at) > func.clock_timestamp() - AGAIN
    begun = select(col(Prune.id)).where(col(Prune.started_by) == "room", lately)
    return db.scalar(select(begun.exists())) is not True
