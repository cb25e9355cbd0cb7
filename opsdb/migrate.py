"""Brings a database to what this version of the room needs: roles, the schema `ops`, its tables."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from opsdb.database import connect, driver_url, first_line, reachable
from opsdb.errors import OpsError
from opsdb.settings import Settings

ROLES = ("ops_owner", "ops_writer", "ops_monitor", "superset_ro")
OLDEST_SERVER = 160_000  # the privilege SET on roles is that new
LOCK = 0x0B5DB  # one upgrade at a time, whoever starts it


def create_database(url: str, name: str) -> bool:
    """Create the database on the URL's server unless it is there. Returns whether it was made."""
    with reachable():
        engine = create_engine(driver_url(url), isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
        try:
            with engine.connect() as db:
                known = db.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
                if known:
                    return False
                db.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING UTF8'))
                return True
        finally:
            engine.dispose()


def upgrade(settings: Settings) -> str:
    """Make the roles and the schema, run what migrations are missing, and return the revision reached.

    Safe to repeat and to run twice at once. Raises OpsError that says which right is missing.
    """
    with reachable():
        engine = connect(settings, role=None, application="migrate", statement_seconds=600)
        try:
            with engine.begin() as db:
                db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
                _check_version(db)
                _create_roles(db)
                db.execute(text("CREATE SCHEMA IF NOT EXISTS ops AUTHORIZATION ops_owner"))
                db.execute(text("SET LOCAL ROLE ops_owner"))
                command.upgrade(alembic_config(db), "head")
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


def head() -> str:
    """The newest revision that this version of the room knows."""
    revision = ScriptDirectory.from_config(alembic_config(None)).get_current_head()
    if revision is None:
        raise OpsError("this installation carries no migrations")
    return revision


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


def _create_roles(db: Connection) -> None:
    for role in ROLES:
        if not db.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
            db.execute(text(f"CREATE ROLE {role} NOLOGIN"))
    for role in ("ops_owner", "ops_writer", "ops_monitor"):  # each is taken on by some part of the room
        if not db.scalar(text("SELECT pg_has_role(current_user, :role, 'SET')"), {"role": role}):
            db.execute(text(f"GRANT {role} TO CURRENT_USER"))
