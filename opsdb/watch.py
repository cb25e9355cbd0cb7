"""Since when somebody watches without an outage: what nobody saw is nobody's silence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, case, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.tables import SyncMark


class Mark(StrEnum):
    """Who leaves marks in `ops.sync_marks`."""

    SYNC = "sync"
    """The sync, each time that it has compared all; `at` is how far it has come."""
    PREFECT = "prefect"
    """The sync, each time that Prefect has answered."""
    SWEEPER = "sweep"
    ALERTER = "alerts"
    TOTALS = "totals"
    """Whoever adds up what was counted."""
    PLANNED = "planned"
    """A worker: up to `at`, what was due while the room was down has been planned."""


@dataclass(frozen=True)
class Watch:
    """Since when somebody watches without an outage, and the moment at which that was so."""

    since: datetime
    now: datetime


def keep_watch(db: Connection, mark: Mark, *, outage_seconds: float) -> Watch:
    """Note that somebody watches, and return since when: from now on, when there was no mark for `outage_seconds`."""
    now = func.statement_timestamp()  # one moment for all: the server may be stopped between two looks at the clock
    made = insert(SyncMark).values(name=mark, at=now, updated_at=now)
    gap = now - col(SyncMark.updated_at) > timedelta(seconds=outage_seconds)
    row = db.execute(
        made.on_conflict_do_update(
            index_elements=[col(SyncMark.name)],
            set_={"at": case((gap, now), else_=col(SyncMark.at)), "updated_at": now},
        ).returning(col(SyncMark.at), col(SyncMark.updated_at))
    ).one()
    return Watch(since=row.at, now=row.updated_at)


def seconds_since(db: Connection, mark: Mark) -> float | None:
    """How old a mark is; None when it was never left."""
    age = func.extract("epoch", func.clock_timestamp() - col(SyncMark.updated_at))
    found = db.scalar(select(age).where(col(SyncMark.name) == mark))
    return None if found is None else float(found)


def is_fresh(db: Connection, mark: Mark, *, outage_seconds: float) -> bool:
    """Whether a mark was left within `outage_seconds`."""
    latest = func.clock_timestamp() - timedelta(seconds=outage_seconds)
    return bool(db.scalar(select(col(SyncMark.updated_at) > latest).where(col(SyncMark.name) == mark)))
