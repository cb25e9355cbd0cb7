"""Whether a login reaches the ops database, and what it finds and may do there."""

from __future__ import annotations

from datetime import timedelta

from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from blocks.check import Check
from opsdb.database import GONE, clock_ahead, connect, first_line
from opsdb.migrate import OLDEST_SERVER, head, revisions
from opsdb.settings import Settings

STATEMENT_SECONDS = 3.0
CLOCK_SECONDS = 30.0
"""A difference between two clocks that people notice. Nothing in the room depends on it."""

# A policy that is for none of the login's roles shows it no rows, without an error.
RIGHTS = text("""
SELECT has_table_privilege(c.oid, 'SELECT') AS reads, has_table_privilege(c.oid, 'INSERT, UPDATE') AS writes,
    NOT row_security_active(c.oid) OR EXISTS (
        SELECT FROM pg_policy p, unnest(p.polroles) role
        WHERE p.polrelid = c.oid AND (role = 0 OR pg_has_role(role, 'USAGE'))) AS sees
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'ops' AND c.relname = 'runs' AND has_schema_privilege(n.oid, 'USAGE')
""")
SCHEMA = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'ops')")
WRITER = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ops_writer' AND pg_has_role(oid, 'SET'))")


def check_database(url: str, *, writes: bool) -> list[Check]:
    """Look at the ops database as the login of `url`, which should be able to write, or should not.

    Takes a few seconds at most, also when the server is silent. Of the URL only host and user are shown.
    """
    engine = connect(
        Settings(database_url=SecretStr(url)), role=None, application="check", statement_seconds=STATEMENT_SECONDS
    )
    try:
        with engine.connect() as db:
            return [_reached(db), *_check_login(db, writes=writes)]
    except GONE as error:
        advice = "see that the server runs, and that host, user, password, pg_hba.conf and CONNECT let this login in"
        return [Check("reached", first_line(error), advice)]
    except DBAPIError as error:
        return [Check("reached", first_line(error), "see the server's log")]
    finally:
        engine.dispose()


def _reached(db: Connection) -> Check:
    number, version, user = db.execute(
        text("SELECT current_setting('server_version_num')::int, current_setting('server_version'), session_user")
    ).one()
    found = f"PostgreSQL {version} as {user}"
    if number < OLDEST_SERVER:
        return Check("reached", found, "the room needs PostgreSQL 16 or newer: upgrade the server")
    return Check("reached", found)


def _check_login(db: Connection, *, writes: bool) -> list[Check]:
    # a worker takes on the role right after connecting, whatever it may do by itself
    writer = bool(db.execute(WRITER).scalar_one())
    if writes and writer:
        db.execute(text("SET ROLE ops_writer"))
    rights = db.execute(RIGHTS).one_or_none()
    checks = [_protected(db)]
    if rights is None and not db.execute(SCHEMA).scalar_one():
        checks.append(Check("schema", "there is no schema `ops`", "run `ops db upgrade` with this database"))
    elif rights is None or not rights.reads:
        checks.append(Check("rights", "may not read the schema `ops`", _grant(writes=writes)))
    elif not rights.sees:
        checks.append(Check("rights", "may read, but row-level security shows it no rows", _grant(writes=writes)))
    else:
        at = db.execute(text("SELECT version_num FROM ops.alembic_version")).scalar_one_or_none()
        may_write = writer if writes else writer or bool(rights.writes)
        checks += [judge_revision(at, known=revisions(), newest=head()), judge_rights(may_write, writes)]
    return [*checks, judge_clock(clock_ahead(db))]


def _protected(db: Connection) -> Check:
    info = db.connection.driver_connection
    host = "" if info is None else info.info.host
    encrypted = info is not None and bool(info.pgconn.ssl_in_use)
    return judge_protection(host, encrypted=encrypted)


def judge_protection(host: str, *, encrypted: bool) -> Check:
    """Whether the way to the server is safe: `host` is a name, an address or the folder of a socket."""
    if encrypted:
        return Check("TLS", "the connection is encrypted")
    if host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1"):
        return Check("TLS", "not needed: the server is on this host")
    advice = "give sslmode=verify-full, or require, and switch TLS on in the server"
    return Check("TLS", f"the connection to {host} is not encrypted", advice)


def judge_revision(at: str | None, *, known: list[str], newest: str) -> Check:
    """Whether the schema is the one that this version of the room needs."""
    if at == newest:
        return Check("schema", f"at revision {at}, as this version needs it")
    if at is None or at in known:
        return Check("schema", f"at revision {at or 'none'}, older than {newest}", "run `ops db upgrade`")
    return Check("schema", f"at revision {at}, which this version does not know", "upgrade this installation")


def judge_rights(may_write: bool, wanted: bool) -> Check:
    """Whether the login may do what it is for, and no more."""
    found = "may read and write" if may_write else "may read, and not write"
    if may_write == wanted:
        return Check("rights", found)
    if wanted:
        return Check("rights", found, _grant(writes=True))
    return Check("rights", found, "use a login that only reads: grant it ops_monitor, and nothing else of the room")


def judge_clock(ahead: timedelta) -> Check:
    """Whether the clocks of the database and of this host agree."""
    seconds = ahead.total_seconds()
    if abs(seconds) < CLOCK_SECONDS:
        return Check("clock", f"agrees with this host's to {max(1, round(abs(seconds)))} s")
    found = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this host's"
    return Check("clock", found, "let both hosts take their time from NTP")


def _grant(*, writes: bool) -> str:
    role = "ops_writer" if writes else "ops_monitor"
    return f"as a superuser: GRANT {role} TO this login"
