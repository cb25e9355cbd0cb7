"""Deletes old runs from the record, a page of them in a transaction, and the events that are too many.

Nothing counts when a run is deleted: what metrics add up was counted as it happened (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import Connection, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.retention.amounts import Amount, Amounts
from opsdb.retention.kept import PRUNABLE
from opsdb.tables import RunEvent

PAGE = 200
"""How many runs one transaction deletes: some thousand rows, which takes tenths of a second."""
PASSES_STAY = timedelta(days=365)
NOBODY = UUID(int=0)
_CHILDREN = {
    "run_events": "created_at",
    "run_states": "at",
    "run_steps": "started_at",
    "step_results": None,
    "artifacts": "created_at",
}
"""What belongs to a run, and when it was made. Its locks go with it as well: it is over, they lock nothing."""
_PAGE = text(f"""
SELECT id, finished_at FROM ops.runs
WHERE {PRUNABLE} AND (finished_at, id) > (:after, :last) ORDER BY finished_at, id LIMIT {PAGE}
""")  # noqa: S608 - of texts of ours
_COUNT = text(f"SELECT count(*) FROM ops.runs WHERE {PRUNABLE}")  # noqa: S608 - of texts of ours
_LOCK = text(f"""
SELECT id FROM ops.runs WHERE id = ANY(:ids) AND {PRUNABLE} ORDER BY id FOR UPDATE SKIP LOCKED
""")  # noqa: S608 - of texts of ours
_EMPTY_SESSIONS = """
    FROM ops.sessions WHERE updated_at < :cutoff AND status <> 'active'
    AND NOT EXISTS (SELECT FROM ops.runs WHERE session_id = sessions.id)
"""
# by the row of the installation the room prunes
_OLD_PASSES = "FROM ops.prunes WHERE started_at < :cutoff AND started_by <> 'installation'"
_EVENT_DAYS = text("""
SELECT date_trunc('day', created_at, 'UTC') AS day, sum(pg_column_size(run_events.*))::bigint AS bytes
FROM ops.run_events GROUP BY 1
""")
_EVENT_PAGE = text(f"""
SELECT id, created_at FROM ops.runs
WHERE created_at < :before AND (created_at, id) > (:after, :last) AND finished_at IS NOT NULL
ORDER BY created_at, id LIMIT {PAGE}
""")  # noqa: S608 - of texts of ours
# of one that was recorded under a name (an id of version 5) another run, or a person's next command, reads the data
_PLAIN_EVENTS = """
    FROM ops.run_events WHERE run_id = ANY(:ids) AND created_at < :before AND level <> 'error'
    AND get_byte(uuid_send(id), 6) >> 4 = 4
"""


@dataclass(frozen=True, slots=True)
class Place:
    """How far the pages have come: a time, and the last id of it."""

    at: datetime
    last: UUID = NOBODY


def read_page(
    db: Connection, place: Place, *, cutoff: datetime, kept: Collection[UUID]
) -> tuple[list[UUID], Place | None]:
    """The next old runs, oldest end first, and where the next page begins; None after the last one."""
    values = {"cutoff": cutoff, "kept": list(kept), "after": place.at, "last": place.last}
    rows = db.execute(_PAGE, values).all()
    return [row.id for row in rows], Place(rows[-1].finished_at, rows[-1].id) if rows else None


def count_old_runs(db: Connection, *, cutoff: datetime, kept: Collection[UUID]) -> int:
    """How many runs are old, and nothing builds on them."""
    found: int = db.execute(_COUNT, {"cutoff": cutoff, "kept": list(kept)}).scalar_one()
    return found


def delete_runs(
    db: Connection, ids: Sequence[UUID], *, cutoff: datetime, kept: Collection[UUID], dry: bool = False
) -> Amounts:
    """Delete those of the runs that still are old and over, with all that belongs to them; only count them if `dry`.

    A run that somebody else has locked stays until the next time.
    """
    amounts = Amounts()
    if not dry:
        ids = list(db.scalars(_LOCK, {"ids": list(ids), "cutoff": cutoff, "kept": list(kept)}))
    children = Amounts()
    for table, made in _CHILDREN.items():
        amount = _take(db, table, f"FROM ops.{table} WHERE run_id = ANY(:ids)", made, {"ids": list(ids)}, dry=dry)
        children.add(table.replace("_", " "), amount)
    runs = _take(db, "runs", "FROM ops.runs WHERE id = ANY(:ids)", "finished_at", {"ids": list(ids)}, dry=dry)
    amounts.add("runs", runs)
    amounts.add_all(children)
    return amounts


def delete_empty_sessions(db: Connection, *, cutoff: datetime, dry: bool = False) -> Amount:
    """Delete old sessions that are over and of which no run is left."""
    return _take(db, "sessions", _EMPTY_SESSIONS, "created_at", {"cutoff": cutoff}, dry=dry)


def delete_old_passes(db: Connection, *, now: datetime, dry: bool = False) -> Amount:
    """Delete the rows of passes that began over a year ago."""
    return _take(db, "prunes", _OLD_PASSES, "started_at", {"cutoff": now - PASSES_STAY}, dry=dry)


def read_event_days(db: Connection) -> list[tuple[datetime, int]]:
    """The days on which events were recorded, with the bytes of those."""
    return [(row.day, row.bytes) for row in db.execute(_EVENT_DAYS)]


def read_event_page(db: Connection, place: Place, *, before: datetime) -> tuple[list[UUID], Place | None]:
    """The next runs that are over and older than that, and where the next page begins; None after the last one."""
    rows = db.execute(_EVENT_PAGE, {"before": before, "after": place.at, "last": place.last}).all()
    return [row.id for row in rows], Place(rows[-1].created_at, rows[-1].id) if rows else None


def delete_events(db: Connection, ids: Sequence[UUID], *, before: datetime, dry: bool = False) -> Amount:
    """Delete events of the runs from before that time, and leave one that says so.

    Errors stay, and what was recorded for a later run to read.
    """
    values = {"ids": list(ids), "before": before}
    if not dry:
        runs = db.scalars(text(f"SELECT DISTINCT run_id {_PLAIN_EVENTS}"), values).all()
        _note_deleted_events(db, runs, before=before)
    return _take(db, "run_events", _PLAIN_EVENTS, "created_at", values, dry=dry)


def _note_deleted_events(db: Connection, runs: Sequence[UUID], *, before: datetime) -> None:
    message = f"events before {before:%Y-%m-%d} were deleted: those of all runs took more than OPS_EVENT_BYTES"
    rows = [
        {"id": uuid5(run_id, "events deleted"), "run_id": run_id, "level": "info", "message": message, "data": {}}
        for run_id in runs
    ]
    if rows:
        made = insert(RunEvent).values(rows)
        changed = {"message": made.excluded.message, "created_at": func.clock_timestamp()}
        db.execute(made.on_conflict_do_update(index_elements=[col(RunEvent.id)], set_=changed))


def _take(db: Connection, table: str, chosen: str, made: str | None, values: dict[str, object], *, dry: bool) -> Amount:
    """Delete rows, or only look at them, and say how much that is."""
    columns = f"pg_column_size({table}.*) AS bytes, {made or 'NULL::timestamptz'} AS at"
    rows = f"SELECT {columns} {chosen}" if dry else f"DELETE {chosen} RETURNING {columns}"
    counted = "SELECT count(*), coalesce(sum(bytes), 0)::bigint, min(at) FROM taken"
    count, size, oldest = db.execute(text(f"WITH taken AS ({rows}) {counted}"), values).one()
    return Amount(count=count, bytes=size, oldest_at=oldest)
