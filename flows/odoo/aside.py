"""Databases and filestores beside the live ones: those from before an upgrade, and the broken ones that were taken
back.

Both are called by the run of the upgrade, so that whoever continues after a kill finds them. A database that is set
aside is a template: that takes it out of the list of databases in which Odoo runs scheduled jobs.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from flows.backup.postgres import Connection, connect, find_neighbour
from flows.backup.properties import Properties
from flows.restore.claim import sessions_ended
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError

_RENAME_SECONDS = 60
_AGAIN_SECONDS = 0.5


def name_before(upgrade: UUID) -> str:
    """The names of the database and the filestore that are kept from before an upgrade."""
    return f"ops_before_{upgrade.hex}"


def name_broken(upgrade: UUID) -> str:
    """What the database that was taken back is called, and its filestore."""
    return f"ops_broken_{upgrade.hex}"


def upgrade_of_broken(name: str) -> UUID | None:
    """The upgrade that a database of such a name is left of; None for any other name."""
    found = re.fullmatch(r"ops_broken_([0-9a-f]{32})", name)
    return UUID(found[1]) if found else None


def comment_before(database: str, upgrade: UUID) -> str:
    """Says of a database that it is whole, and what it is."""
    return f"{database} as it was before the upgrade of the Ops Control Room's run {upgrade}"


def properties_aside(properties: Properties, comment: str) -> Properties:
    """The properties of a database while it is set aside."""
    return properties.model_copy(update={"is_template": True, "comment": comment})


def connect_beside(url: str, live: str) -> Connection:
    """Connect to another database of the server: a session's own cannot be renamed. Raises PreflightError."""
    neighbour = find_neighbour(url, live).name
    if neighbour == live:
        raise PreflightError(
            f"the room reaches no database of the server but {live}, which cannot be renamed from within. Hint: let "
            "OPS_ODOO_DATABASE_URL name `postgres` as its database"
        )
    return connect(url, database=neighbour)


def find_aside(server: Connection, name: str) -> str | None:
    """The comment of a database, which says what it is; None where there is no such database, or no comment."""
    row = server.execute(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = %s",
        (name,),
    ).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def exists(server: Connection, name: str) -> bool:
    """Whether the server has a database of that name."""
    return server.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone() is not None


def swap_databases(url: str, live: str, *, incoming: str, aside: str, comment: str) -> None:
    """Set the live database aside and put another one in its place, in one transaction.

    Whenever this is killed there is one database under the live name, the one or the other. The sessions of both are
    ended, also those of who connects again meanwhile. The one that is set aside gets the comment.
    Raises StepFailedError, and then nothing was changed.
    """
    with connect_beside(url, live) as server:
        until = time.monotonic() + _RENAME_SECONDS
        while True:
            try:
                with sessions_ended(partial(connect_beside, url, live), live, incoming), server.transaction():
                    _swap(server, live, incoming=incoming, aside=aside, comment=comment)
            except psycopg.errors.ObjectInUse as error:
                if time.monotonic() > until:
                    raise StepFailedError(
                        f"{live} cannot be renamed: {first_line(error)}. Hint: pg_stat_activity shows who connects to "
                        "it again and again; stop that"
                    ) from error
                time.sleep(_AGAIN_SECONDS)
            except psycopg.Error as error:
                raise StepFailedError(f"{live} and {incoming} cannot be swapped: {first_line(error)}") from error
            else:
                return


def _swap(server: Connection, live: str, *, incoming: str, aside: str, comment: str) -> None:
    row = server.execute(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = %s",
        (live,),
    ).fetchone()
    was = row[0] if row else None
    live_name, aside_name, incoming_name = (sql.Identifier(name) for name in (live, aside, incoming))
    statements = (
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(live_name, aside_name),
        sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(aside_name),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(aside_name, sql.Literal(comment)),
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(incoming_name, live_name),
        sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(live_name),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(live_name, sql.Literal(was)),
    )
    for statement in statements:
        server.execute(statement)


def drop(server: Connection, name: str) -> None:
    """Drop a database that this module has named, if it is there. Raises psycopg.Error."""
    if exists(server, name):
        server.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
        server.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def set_comment(url: str, name: str, comment: str) -> None:
    """Say what a database is. Raises StepFailedError."""
    try:
        with connect(url) as server:
            server.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment)))
    except psycopg.Error as error:
        raise StepFailedError(f"{name} cannot be given a comment: {first_line(error)}") from error


def drop_hint(upgrade: UUID, filestores: Path | None) -> str:
    """The commands that drop what was taken back, for an operator who needs it no longer."""
    name = name_broken(upgrade)
    words = f"psql -c 'ALTER DATABASE {name} IS_TEMPLATE false' -c 'DROP DATABASE {name}'"
    return f"{words} && rm -r {filestores / name}" if filestores else words


def swap_filestores(parent: Path, live: str, *, incoming: str, aside: str) -> None:
    """Do the same with two folders of one parent, by two renames. Again, it does what is left of them.

    Odoo is stopped meanwhile. Raises StepFailedError where neither of the two is there.
    """
    at, new, old = parent / live, parent / incoming, parent / aside
    try:
        if os.path.lexists(at) and not os.path.lexists(old):
            _check_there(new)
            at.rename(old)
        if os.path.lexists(new) and not os.path.lexists(at):
            new.rename(at)
    except OSError as error:
        raise StepFailedError(f"{at} cannot be renamed: {error.strerror}") from error
    _check_there(at)


def swap_filestores_again(parent: Path, live: str, *, broken: str, before: str) -> None:
    """Undo a swap, or what was done of it; nothing where none had begun."""
    if os.path.lexists(parent / broken):
        swap_filestores(parent, live, incoming=broken, aside=before)


def remove_filestore(folder: Path) -> None:
    """Remove a folder that this module has named, if it is there. Raises StepFailedError."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StepFailedError(f"{folder} cannot be removed: {error.strerror}. Remove it by hand") from error


def _check_there(folder: Path) -> None:
    if not os.path.lexists(folder):
        raise StepFailedError(f"{folder} is missing: somebody removed it. Nothing was renamed")
