"""Reading what is recorded of sessions, for the people who ask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Text, cast, func, or_, select
from sqlmodel import col

from opsdb.errors import UsageError
from opsdb.tables import Session

CANDIDATES = 5

PROGRESS = """
SELECT p.id, p.name, s.description, p.status, p.triggered_by, p.created_at,
       p.runs, p.unfinished, p.succeeded, p.failed, p.cancelled
FROM ops.session_progress p JOIN ops.sessions s USING (id)
"""


@dataclass(frozen=True, kw_only=True)
class SessionProgress:
    """A session with the counts of its runs: succeeded + failed + cancelled + unfinished = runs."""

    id: UUID
    name: str
    description: str | None
    status: str
    triggered_by: str
    created_at: datetime
    runs: int
    unfinished: int
    succeeded: int
    failed: int
    cancelled: int


def list_sessions(db: Connection, *, limit: int) -> list[SessionProgress]:
    """The newest sessions."""
    rows = db.exec_driver_sql(
        PROGRESS + " ORDER BY p.created_at DESC, p.id LIMIT %(limit)s",
        {"limit": limit},
    )
    return [SessionProgress(**row) for row in rows.mappings()]


def read_session(db: Connection, session_id: UUID) -> SessionProgress:
    """One session. Raises UsageError when it is gone."""
    row = db.exec_driver_sql(PROGRESS + " WHERE p.id = %(id)s", {"id": session_id}).mappings().one_or_none()
    if row is None:
        raise UsageError(f"session {session_id} was just deleted from the ops database")
    return SessionProgress(**row)


def find_session(db: Connection, text: str) -> UUID:
    """The one session with that name or id, or whose id starts or ends so. Raises UsageError that lists candidates."""
    digits = text.replace("-", "").lower()
    id_text = func.replace(cast(col(Session.id), Text), "-", "")
    fits = col(Session.name) == text
    if re.fullmatch(r"[0-9a-f]{4,32}", digits):
        fits = or_(fits, id_text.startswith(digits), id_text.endswith(digits))
    found = db.execute(
        select(col(Session.id), col(Session.status), col(Session.created_at))
        .where(fits)
        .order_by(col(Session.created_at).desc())
        .limit(CANDIDATES + 1)
    ).all()
    if not found:
        raise UsageError(f"SESSION: no session has the name or id {text!r}: `ops session list` shows them")
    if len(found) > 1:
        listed = ", ".join(f"{row.id} ({row.status}, {row.created_at:%Y-%m-%d %H:%M})" for row in found[:CANDIDATES])
        more = " and older ones" if len(found) > CANDIDATES else ""
        raise UsageError(f"SESSION: {text!r} fits several, give the id of one: {listed}{more}")
    session_id: UUID = found[0].id
    return session_id
