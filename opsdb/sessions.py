"""Sessions: the operator's grouping of runs."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.tables import Session

TAG = "session:"


def tag_of(session_id: UUID) -> str:
    """The tag by which a Prefect flow run says to which session it belongs."""
    return f"{TAG}{session_id}"


def session_of_tags(tags: list[str]) -> UUID | None:
    """The session that the tags of a flow run name, or None. A tag that names no UUID counts as none."""
    for tag in tags:
        if tag.startswith(TAG):
            try:
                return UUID(tag.removeprefix(TAG))
            except ValueError:
                continue
    return None


def open_session(db: Connection, *, name: str, triggered_by: str = "manual") -> UUID:
    """The active session of that name; made when there is none."""
    found = db.scalar(
        select(col(Session.id))
        .where(col(Session.name) == name, col(Session.status) == "active")
        .order_by(col(Session.created_at).desc())
        .limit(1)
    )
    if found is not None:
        return found
    made = uuid4()
    db.execute(insert(Session).values(id=made, name=name, triggered_by=triggered_by, context={}))
    return made


def ensure_session(db: Connection, *, session_id: UUID | None, created_at: datetime) -> UUID:
    """The session of a run made at `created_at`: the named one if it exists, else that day's `Ad hoc` session."""
    if session_id is not None and db.scalar(select(func.count()).where(col(Session.id) == session_id)):
        return session_id
    name = f"Ad hoc {created_at.astimezone(UTC):%Y-%m-%d}"
    ad_hoc = uuid5(NAMESPACE_URL, f"ops:session:{name}")  # the same from everywhere, so that two cannot make two
    db.execute(
        insert(Session)
        .values(id=ad_hoc, name=name, description="Runs started outside a session", context={})
        .on_conflict_do_nothing()
    )
    return ad_hoc
