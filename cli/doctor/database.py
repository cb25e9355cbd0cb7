"""What `ops doctor` looks at in the database server: who else may connect, and who holds up the room."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ProgrammingError

from blocks.check import Check
from opsdb.database import connect
from opsdb.public_access import PublicAccess, maintaining, read_public_access
from opsdb.room_locks import Hindrance, read_hindrances
from opsdb.settings import Settings

HELD_SECONDS = 1.0
"""A lock that one transaction holds for longer than the parts of the room do."""
STATEMENT_CHARACTERS = 230
"""What a line of the doctor has room for."""
# Of other logins it shows only to those who may read statistics
OLD_TRANSACTIONS = text("""
SELECT usename::text AS role, application_name AS application, pid,
       extract(epoch FROM clock_timestamp() - xact_start) / 3600 AS hours
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start < now() - interval '1 hour'
ORDER BY xact_start LIMIT 10
""")


def check_access(settings: Settings) -> Iterator[Check]:
    """Look whether logins that hold no right in the room's databases may connect to them."""
    for name in (make_url(settings.ops_url).database or "", settings.prefect_database):
        with maintaining(settings.ops_url, name) as db:
            yield judge_access(read_public_access(db), ours=settings.embedded)


def judge_access(access: PublicAccess, *, ours: bool) -> Check:
    """Whether every login of the server may connect to a database, and what would end that."""
    subject = f"logins of {access.database}"
    if not access.revokes:
        return Check(subject, "only those that hold a right in it may connect")
    found = (
        "every login of the server may connect to it, fill its disk with temporary tables and large objects, and fill "
        "the server's table of locks"
    )
    if ours or access.made_here:
        return Check(subject, found, "run `ops db upgrade`, which closes the databases that the room made")
    statements = "; ".join((*access.grants, *access.revokes))
    if len(statements) > STATEMENT_CHARACTERS:
        statements = f"GRANT CONNECT ... to each role that works in it; {'; '.join(access.revokes)}"
    return Check(subject, found, f"as its owner: {statements}")


def check_locks(settings: Settings) -> Iterator[Check]:
    """Look who has held up a part of the room for longer than a moment, and which transactions stay open for hours."""
    engine = connect(settings, role=None, application="check", statement_seconds=3)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            old = list(db.execute(OLD_TRANSACTIONS))
            held = _lasting(db)
    except ProgrammingError:
        return  # an older schema, or none, is a finding of its own
    finally:
        engine.dispose()
    for one in held:
        found = f"{one.holder} holds {one.what}"
        advice = f"let that session end, or end it: SELECT pg_terminate_backend({one.holder.pid})"
        yield Check(f"the part {one.part}", found, advice)
    for row in old:
        found = f"role {row.role!r} (application {row.application!r}, pid {row.pid}) has one open for {row.hours:.0f} h"
        advice = f"PostgreSQL cannot clean up behind it: end it, or SELECT pg_terminate_backend({row.pid})"
        yield Check("transactions", found, advice)
    if not held and not old:
        yield Check("locks", "nobody holds up the room")


def _lasting(db: Connection) -> list[Hindrance]:
    """The hindrances that are the same a second later."""
    before = set(read_hindrances(db))
    if not before:
        return []
    time.sleep(HELD_SECONDS)
    return [one for one in read_hindrances(db) if one in before]
