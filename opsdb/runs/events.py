"""Events of a run that are recorded once under a name, and read again by it: what a later run has to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, select
from sqlmodel import col

from opsdb.tables import RunEvent


def event_id_of(run_id: UUID, once: str) -> UUID:
    """The id of the event that a run records once under this name."""
    return uuid5(run_id, once)


def read_event_data(db: Connection, run_id: UUID, names: Sequence[str]) -> dict[str, Any] | None:
    """The data of the newest of these events of a run; None where none was recorded."""
    ids = [event_id_of(run_id, name) for name in names]
    found = select(col(RunEvent.data)).where(col(RunEvent.id).in_(ids), col(RunEvent.run_id) == run_id)
    data: dict[str, Any] | None = db.scalar(found.order_by(col(RunEvent.created_at).desc()).limit(1))
    return data
