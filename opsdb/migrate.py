"""Brings a database to what this version of the room needs: roles, the schema `ops`, its tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from opsdb.comments import describe
from opsdb.database import connect, driver_url, first_line, reachable
from opsdb.errors import OpsError, UsageError
from opsdb.public_access import MADE_HERE
from opsdb.room_locks import Holder, read_blocking
from opsdb.settings import Settings

ROLES = ("ops_owner", "ops_writer", "ops_monitor", "superset_ro")
OLDEST_SERVER = 160_000  # the privilege SET on roles is that new
UPGRADE_SECONDS = 60.0
"""How long an upgrade waits for another one."""
TABLE_SECONDS = 10.0
"""How long it waits for a table that is in use: whoever wants the table meanwhile waits behind it."""
LOOK_SECONDS = 0.2
TRIES = 5

_AT_ONCE = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.InternalError_,  # "tuple concurrently updated"
)
"""What another upgrade, or a process of the room, has made of ours. All of it was rolled back: it can begin again."""
# Alembic's own, made before it looks, so that there is something to lock
_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS ops.alembic_version (
    version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY)
"""


def create_database(url: str, name: str) -> bool:
    """Create the database on the URL's server unless it is there. Returns whether it was made."""
    with reachable():
        options = {"connect_timeout": 3, "options": "-c search_path=pg_catalog"}
        engine = create_engine(driver_url(url), isolation_level="AUTOCOMMIT", connect_args=options)
        try:
            with engine.connect() as db:
                known = db.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
                if known:
                    return False
                db.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING UTF8'))
                db.execute(text(f"COMMENT ON DATABASE \"{name}\" IS '{MADE_HERE}'"))
                return True
        finally:
            engine.dispose()


def upgrade(settings: Settings) -> str:
    """Make the roles and the schema, run what migrations are missing, and return the revision reached.

    Safe to repeat and to run twice at once. Raises OpsError that says which right is missing, or who holds a lock that
    did not become free in time; nothing has changed then.
    """
    with reachable():
        engine = connect(settings, role=None, application="migrate", statement_seconds=600)
        try:
            for left in reversed(range(TRIES)):
                try:
                    with engine.begin() as db, _naming_holders(engine, db):
                        _migrate(db)
                    break
                except DBAPIError as error:
                    if not left or not isinstance(error.orig, _AT_ONCE):
                        raise
        except DBAPIError as error:
            if error.connection_invalidated or type(error).__name__ == "OperationalError":
                raise
            raise OpsError(
                f"the ops database could not be upgraded: {first_line(error)}. The user of OPS_DATABASE_URL needs "
                "CREATEROLE and CREATE on the database for the first upgrade."
            ) from error
        finally:
            engine.dispose()
    return head()


def _migrate(db: Connection) -> None:
    _check_version(db)
    # of the first upgrades at once, one makes the roles and the schema; the others wait for it, fail, and begin again
    db.execute(text(f"SET LOCAL lock_timeout = '{UPGRADE_SECONDS:g}s'"))
    create_roles(db)
    _create_schema(db)
    db.execute(text("SET LOCAL ROLE ops_owner"))
    db.execute(text(_VERSION_TABLE))
    # readers may hold ACCESS SHARE, which this does not wait for
    db.execute(text("LOCK TABLE ops.alembic_version IN SHARE ROW EXCLUSIVE MODE"))
    db.execute(text(f"SET LOCAL lock_timeout = '{TABLE_SECONDS:g}s'"))
    command.upgrade(alembic_config(db), "head")
    describe(db)


@contextmanager
def _naming_holders(engine: Engine, db: Connection) -> Iterator[None]:
    """When a wait for a lock comes to its limit, raise OpsError that names who holds it: nobody can tell afterwards."""
    pid = db.execute(text("SELECT pg_backend_pid()")).scalar_one()
    holders: list[Holder] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            with suppress(DBAPIError), engine.connect() as other:
                holders[:] = read_blocking(other, pid=pid) or holders

    looking = threading.Thread(target=look, name="who holds the lock", daemon=True)
    looking.start()
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        held = ", ".join(map(str, holders)) or "a session that cannot be named"
        ending = "; ".join(f"SELECT pg_terminate_backend({holder.pid})" for holder in holders)
        raise OpsError(
            f"the ops database could not be upgraded, and nothing was changed: {held} holds a lock that it needs. "
            f"Wait until that is done{f', or end it as a superuser ({ending})' * bool(ending)}, then repeat the upgrade"
        ) from error
    finally:
        over.set()
        looking.join()


def head() -> str:
    """The newest revision that this version of the room knows."""
    revision = ScriptDirectory.from_config(alembic_config(None)).get_current_head()
    if revision is None:
        raise OpsError("this installation carries no migrations")
    return revision


def check_migrated(settings: Settings) -> None:
    """Raises UsageError unless the database is what this version of the room needs."""
    engine = connect(settings, role="ops_owner", application="check")
    try:
        with reachable(), engine.connect() as db:
            found = db.scalar(text("SELECT version_num FROM ops.alembic_version"))
    finally:
        engine.dispose()
    if found != head():
        raise UsageError(
            f"the ops database is at revision {found}, and this code needs {head()}. Hint: restart the room with "
            "`ops down` and `ops up`, which brings it there"
        )


def revisions() -> list[str]:
    """All revisions that this version of the room knows, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(alembic_config(None)).walk_revisions()]


def alembic_config(db: Connection | None) -> Config:
    """Alembic's configuration for the given connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = db
    return config


def _check_version(db: Connection) -> None:
    version = db.execute(text("SHOW server_version")).scalar_one()
    if int(db.execute(text("SHOW server_version_num")).scalar_one()) < OLDEST_SERVER:
        raise OpsError(f"the ops database is PostgreSQL {version}; the room needs 16 or newer")


def _create_schema(db: Connection) -> None:
    owner = db.scalar(text("SELECT pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = 'ops'"))
    if owner is None:
        db.execute(text("CREATE SCHEMA ops AUTHORIZATION ops_owner"))
    elif owner != "ops_owner":
        raise OpsError(
            f"the schema ops belongs to role {owner!r}, which could drop what is in it: as a superuser, "
            "ALTER SCHEMA ops OWNER TO ops_owner"
        )


def create_roles(db: Connection) -> None:
    """Make the roles of the room, unless they are there, and let this login take on those that the room works as."""
    for role in ROLES:
        if not db.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
            db.execute(text(f"CREATE ROLE {role} NOLOGIN"))
    for role in ("ops_owner", "ops_writer", "ops_monitor"):  # each is taken on by some part of the room
        if not db.scalar(text("SELECT pg_has_role(current_user, :role, 'SET')"), {"role": role}):
            db.execute(text(f"GRANT {role} TO CURRENT_USER"))
