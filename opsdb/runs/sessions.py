"""Sessions: the operator's grouping of runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.errors import UsageError
from opsdb.near_names import did_you_mean
from opsdb.runs.lookup import CANDIDATES, session_fits
from opsdb.tables import Run, Session

TAG = "session:"
OFFERED = 200
"""Of how many of the newest sessions a name is offered that is near."""

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


def make_session(
    db: Connection,
    *,
    session_id: UUID | None = None,
    name: str,
    description: str | None = None,
    triggered_by: str = "manual",
) -> UUID:
    """A new session. With an id of the caller's, making it again changes nothing."""
    made = session_id or uuid4()
    values = {"id": made, "name": name, "description": description, "triggered_by": triggered_by, "context": {}}
    db.execute(insert(Session).values(values).on_conflict_do_nothing(index_elements=["id"]))
    return made


def join_session(db: Connection, text: str) -> UUID:
    """The session with that id, or the newest of that name that is not cancelled; made when there is none.

    Raises UsageError when the id is of no session, or of a cancelled one.
    """
    session_id = spelled_id(text)
    if session_id is None:
        newest = newest_session(db, text)
        return newest if newest is not None and _touch(db, newest) else make_session(db, name=text)
    status = _touch(db, session_id)
    if status is None:
        raise UsageError(f"--session: there is no session {session_id}; `ops session list` shows them")
    if status == "cancelled":
        raise UsageError(f"--session: {session_id} was cancelled, no run can join it")
    return session_id


def _touch(db: Connection, session_id: UUID) -> str | None:
    """Let a session be in use from now on, so that an old and empty one is not deleted before the run is recorded.

    Returns its status, None where it is gone.
    """
    touched = update(Session).where(col(Session.id) == session_id).values(updated_at=func.clock_timestamp())
    return db.scalar(touched.returning(col(Session.status)))


def newest_session(db: Connection, name: str) -> UUID | None:
    """The newest session of that name that is not cancelled, or None."""
    return db.scalar(
        select(col(Session.id))
        .where(col(Session.name) == name, col(Session.status) != "cancelled")
        .order_by(col(Session.created_at).desc())
        .limit(1)
    )


def cancel_session(db: Connection, session_id: UUID) -> None:
    """From now on no run joins it by name or id. Its runs are the caller's to cancel."""
    db.execute(
        update(Session)
        .where(col(Session.id) == session_id)
        .values(status="cancelled", updated_at=func.clock_timestamp())
    )


def is_cancelled(db: Connection, session_id: UUID) -> bool:
    """Whether a session was cancelled: none of its runs may start any more."""
    return db.scalar(select(col(Session.status)).where(col(Session.id) == session_id)) == "cancelled"


def is_ad_hoc(session_id: UUID, name: str) -> bool:
    """Whether it only gathers what was started outside a session."""
    return session_id == _ad_hoc(name)


def _ad_hoc(name: str) -> UUID:
    """The same from everywhere, so that two cannot make two."""
    return uuid5(NAMESPACE_URL, f"ops:session:{name}")


def settle_sessions(db: Connection) -> None:
    """Make the status of sessions say what their runs say: completed when all are over, active when one is not.

    It looks at all of them each time, so that what two transactions could not see of each other is seen by the next.
    """
    unfinished = col(Session.id).in_(select(col(Run.session_id)).where(col(Run.finished_at).is_(None)))
    has_runs = select(Run).where(col(Run.session_id) == col(Session.id)).exists()
    for now, then, holds in (("active", "completed", has_runs & ~unfinished), ("completed", "active", unfinished)):
        db.execute(
            update(Session)
            .where(col(Session.status) == now, holds)
            .values(status=then, updated_at=func.clock_timestamp())
        )


def spelled_id(text: str) -> UUID | None:
    """The id that `text` spells in full, or None."""
    try:
        return UUID(text) if len(text) >= 32 else None
    except ValueError:
        return None


def ensure_session(db: Connection, *, session_id: UUID | None, created_at: datetime) -> UUID:
    """The session of a run made at `created_at`: the named one if it exists, else that day's `Ad hoc` session."""
    if session_id is not None and db.scalar(select(func.count()).where(col(Session.id) == session_id)):
        return session_id
    name = f"Ad hoc {created_at.astimezone(UTC):%Y-%m-%d}"
    ad_hoc = _ad_hoc(name)
    db.execute(
        insert(Session)
        .values(id=ad_hoc, name=name, description="Runs started outside a session", context={})
        .on_conflict_do_nothing()
    )
    return ad_hoc


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
    found = db.execute(
        select(col(Session.id), col(Session.status), col(Session.created_at))
        .where(session_fits(text))
        .order_by(col(Session.created_at).desc())
        .limit(CANDIDATES + 1)
    ).all()
    if not found:
        raise _unknown(db, text, what="SESSION")
    if len(found) > 1:
        listed = ", ".join(f"{row.id} ({row.status}, {row.created_at:%Y-%m-%d %H:%M})" for row in found[:CANDIDATES])
        more = " and older ones" if len(found) > CANDIDATES else ""
        raise UsageError(f"SESSION: {text!r} fits several, give the id of one: {listed}{more}")
    session_id: UUID = found[0].id
    return session_id


def check_session(db: Connection, text: str, *, what: str) -> None:
    """Raise UsageError when no session has that name or id, or an id that starts or ends so."""
    if not db.scalar(select(select(Session).where(session_fits(text)).exists())):
        raise _unknown(db, text, what=what)


def _unknown(db: Connection, text: str, *, what: str) -> UsageError:
    newest = select(col(Session.name)).order_by(col(Session.created_at).desc()).limit(OFFERED)
    meant = did_you_mean(text, db.scalars(newest).all())
    return UsageError(f"{what}: no session has the name or id {text!r}.{meant} Hint: `ops session list` shows them")
