"""Who works on a scratch database: a session of ours that bears its name, for as long as its connection lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from flows.backup.postgres import Connection
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError

# The server ends a session whose host is gone after two minutes, and with it the session's claim.
_KEEPALIVES = "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6"
_CLAIM_SECONDS = 150
_END_SECONDS = 30
_LOOK_SECONDS = 0.2
_AGAIN_SECONDS = 0.05
MAY_END = """(SELECT me.rolsuper OR NOT them.rolsuper AND (
    pg_catalog.pg_has_role(me.oid, them.oid, 'USAGE') OR pg_catalog.pg_has_role(me.oid, 'pg_signal_backend', 'USAGE'))
    FROM pg_catalog.pg_roles me, pg_catalog.pg_roles them WHERE me.rolname = current_user AND them.oid = usesysid)"""
"""Whether the role may end a session in pg_stat_activity, as pg_terminate_backend() has it."""
# An autovacuum belongs to no role, and ends by itself. What kind a session is, not every role sees.
END_SESSIONS = f"""
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid() AND usesysid IS NOT NULL AND {MAY_END}
""".encode()  # noqa: S608 - constants
"""Ends the sessions in a database that the role may end."""
_CLAIMS = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity s, pg_catalog.pg_stat_activity mine
    WHERE mine.pid = pg_catalog.pg_backend_pid() AND s.pid <> mine.pid AND s.application_name = %s
          AND (s.usesysid = mine.usesysid
               OR s.usesysid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = %s))
          AND (NOT %s OR (s.backend_start, s.pid) < (mine.backend_start, mine.pid)))
"""


def claim(server: Connection, name: str) -> None:
    """Mark the session as at work on a scratch database, for as long as the connection lives.

    A mark and no lock: any login may take an advisory lock by its number, but none can be a session of ours.
    """
    server.execute(sql.SQL("SET application_name = {}").format(sql.Literal(name)))


def claimed(server: Connection, name: str, *, before_us: bool = False) -> bool:
    """Whether another session of our login, or of the database's owner, claims it; if asked, one from before ours."""
    row = server.execute(_CLAIMS, (name, name, before_us)).fetchone()
    return bool(row and row[0])


def claim_lasting(server: Connection, name: str) -> None:
    """The same, on a connection that may be idle for an hour. Waits for the end of a session that was cut off.

    Raises StepFailedError where that does not end.
    """
    try:
        server.execute(_KEEPALIVES)
        if server.info.server_version >= 140000:
            server.execute("SET idle_session_timeout = 0")
        claim(server, name)
        deadline = time.monotonic() + _CLAIM_SECONDS
        while claimed(server, name, before_us=True):
            if time.monotonic() > deadline:
                raise StepFailedError(
                    f"another process works on {name}, the scratch database of this run, and did not end in "
                    f"{_CLAIM_SECONDS} s: start another run"
                )
            time.sleep(_LOOK_SECONDS)
    except psycopg.Error as error:
        raise StepFailedError(f"the scratch database {name} cannot be claimed: {first_line(error)}") from error


@contextmanager
def sessions_ended(connect: Callable[[], Connection], *names: str) -> Iterator[None]:
    """End whoever is in these databases again and again while the block runs, on a connection of its own.

    A statement that needs a database alone locks it against new sessions, and then waits 5 s for those that came before
    the lock; the server ends none of them. A client that connects again at once would always be one of these.
    """
    over = threading.Event()

    def end() -> None:
        with suppress(psycopg.Error, PreflightError), connect() as other:
            while True:
                for name in names:
                    other.execute(END_SESSIONS, (name,))
                if over.wait(_AGAIN_SECONDS):
                    return

    ending = threading.Thread(target=end, name="ends sessions", daemon=True)
    ending.start()
    try:
        yield
    finally:
        over.set()
        ending.join()


def end_sessions(server: Connection, name: str) -> None:
    """End all sessions in a database: two looks in a row find none, since one may be about to begin.

    Raises StepFailedError where that does not end.
    """
    deadline, quiet = time.monotonic() + _END_SECONDS, 0
    while quiet < 2:
        ended = server.execute(END_SESSIONS, (name,)).fetchall()
        quiet = 0 if ended else quiet + 1
        if time.monotonic() > deadline:
            raise StepFailedError(f"sessions in {name} do not end: pg_stat_activity shows them")
        time.sleep(_LOOK_SECONDS)
