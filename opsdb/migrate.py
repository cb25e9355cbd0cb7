"""Brings a database to what this version of the room needs: roles, the schema `ops`, its tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

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
from opsdb.rights import OWNER
from opsdb.roles import (
    ALL,
    OF_EVERY_ROOM,
    check_roles,
    execute,
    has_schema,
    plan_connections,
    plan_rights,
    plan_roles,
    roles_of_room,
)
from opsdb.room_locks import Holder, read_blocking
from opsdb.settings import Settings

R = TypeVar("R")
OLDEST_SERVER = 160_000  # the privilege SET on roles is that new
UPGRADE_SECONDS = 60.0
"""How long an upgrade waits for another one."""
TABLE_SECONDS = 10.0
"""How long it waits for a table that is in use: whoever needs the table meanwhile waits behind it."""
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
_REVISION = text("SELECT version_num FROM ops.alembic_version")
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
    _change(settings, _migrate, what="the ops database could not be upgraded")
    return head()


class Repair(NamedTuple):
    """The statements that repair the roles, and whether there is a schema in which they have rights."""

    statements: list[str]
    has_schema: bool


def repair_roles(settings: Settings, *, dry: bool) -> Repair:
    """Make the roles that are missing, and give each the rights of `opsdb.rights`.

    In a database without the schema `ops`, only make the roles. Dry: execute nothing. Raises what `upgrade` raises, and
    UsageError for a role that may do more, or a schema of another revision.
    """
    return _change(settings, partial(_repair_roles, dry=dry), what="the roles of the database could not be repaired")


def _change(settings: Settings, work: Callable[[Connection], R], *, what: str) -> R:
    """Do the work in one transaction as the room's own login; repeat it where another one got in the way."""
    with reachable():
        engine = connect(settings, role=None, application="migrate", statement_seconds=600)
        try:
            left = TRIES
            while True:
                try:
                    with engine.begin() as db, _naming_holders(engine, db, what):
                        db.execute(text(f"SET LOCAL lock_timeout = '{UPGRADE_SECONDS:g}s'"))
                        return work(db)
                except DBAPIError as error:
                    left -= 1
                    if not left or not isinstance(error.orig, _AT_ONCE):
                        raise
        except DBAPIError as error:
            if error.connection_invalidated or type(error).__name__ == "OperationalError":
                raise
            raise OpsError(
                f"{what}: {first_line(error)}. The user of OPS_DATABASE_URL needs CREATEROLE to make roles, CREATE on "
                "the database to make the schema, and to be a member of ops_owner that may SET ROLE"
            ) from error
        finally:
            engine.dispose()


def _migrate(db: Connection) -> None:
    _check_version(db)
    # of the first upgrades at once, one makes the roles and the schema; the others wait for it, fail, and begin again
    execute(db, plan_roles(db, OF_EVERY_ROOM))
    _create_schema(db)
    _become_owner(db)
    _lock_schema(db)
    command.upgrade(alembic_config(db), "head")
    execute(db, plan_rights(db, roles_of_room(db)))
    describe(db)


def _repair_roles(db: Connection, *, dry: bool) -> Repair:
    _check_version(db)
    check_roles(db)
    made = plan_roles(db, ALL) + plan_connections(db)
    if not dry:
        execute(db, made)
    if not has_schema(db):
        return Repair(made, has_schema=False)
    if not (dry and made):  # without those it may be that the owner cannot be taken on
        _become_owner(db)
        _check_revision(db.scalar(_REVISION))
    if not dry:
        _lock_schema(db)
    rights = plan_rights(db, ALL)
    if not dry:
        execute(db, rights)
    return Repair(made + rights, has_schema=True)


def _become_owner(db: Connection) -> None:
    db.execute(text(f"SET LOCAL ROLE {OWNER}"))


def _lock_schema(db: Connection) -> None:
    """Wait for the end of other upgrades, and from then on not long for a table."""
    db.execute(text(_VERSION_TABLE))
    # readers may hold ACCESS SHARE, which this does not wait for
    db.execute(text("LOCK TABLE ops.alembic_version IN SHARE ROW EXCLUSIVE MODE"))
    db.execute(text(f"SET LOCAL lock_timeout = '{TABLE_SECONDS:g}s'"))


@contextmanager
def _naming_holders(engine: Engine, db: Connection, what: str) -> Iterator[None]:
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
            f"{what}, and nothing was changed: {held} holds a lock that it needs. "
            f"Wait until that is done{f', or end it as a superuser ({ending})' * bool(ending)}, then repeat it"
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
    engine = connect(settings, application="check")
    try:
        with reachable(), engine.connect() as db:
            found = db.scalar(_REVISION)
    finally:
        engine.dispose()
    _check_revision(found)


def _check_revision(found: str | None) -> None:
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
