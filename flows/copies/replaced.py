"""Yesterday's copy, which a new one takes the place of: judged before, set aside at once, dropped afterwards."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from flows.backup.database import Database
from flows.backup.postgres import Connection, connect
from flows.copies.neutral import MODULES
from flows.engine.active_run import current_run
from flows.restore.claim import MAY_END, sessions_ended
from flows.restore.scratch import drop_database
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError
from opsdb.shown import shown

MARK = ".ops-copy"
"""The file in a filestore that says that the room made it, as that of a copy."""
_RENAME_SECONDS = 60
_PASSING_SECONDS = 5.0
_NEUTRALISED = """
SELECT pg_catalog.to_regclass(%s) IS NOT NULL, pg_catalog.to_regclass('public.ir_config_parameter') IS NOT NULL
"""
_FLAG = "SELECT value FROM public.ir_config_parameter WHERE key = 'database.is_neutralized'"
_MAY_RENAME = """
SELECT pg_catalog.pg_has_role(current_user, datdba, 'USAGE'), pg_catalog.pg_get_userbyid(datdba)
FROM pg_catalog.pg_database WHERE datname = %s
"""
_PREPARED = "SELECT gid, owner FROM pg_catalog.pg_prepared_xacts WHERE database = %s ORDER BY prepared LIMIT 1"
_SLOT = "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database = %s AND active ORDER BY 1 LIMIT 1"
_SUBSCRIPTION = """
SELECT subname FROM pg_catalog.pg_subscription JOIN pg_catalog.pg_database d ON d.oid = subdbid WHERE datname = %s
ORDER BY 1 LIMIT 1
"""
_STAYING = f"""
SELECT usename FROM pg_catalog.pg_stat_activity
WHERE datname = %s AND usesysid IS NOT NULL AND NOT {MAY_END} ORDER BY 1 LIMIT 1
"""  # noqa: S608 - constants
_ASIDE = """
SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::text, 'ops_replaced_')
    AND pg_catalog.shobj_description(oid, 'pg_database') = %s ORDER BY 1
"""


def is_there(server: Connection, name: str) -> bool:
    """Whether the server has a database of that name."""
    return server.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone() is not None


def check_replaceable(database: str, url: str) -> int | None:
    """What stands under the name of a copy is a neutralised Odoo, or nothing. Raises PreflightError for all else.

    Returns its oid: who judges it again knows whether it is the same.

    So neither production, nor anything that nobody made as a copy, is ever replaced.
    """
    with connect(url) as server:
        if not is_there(server, database):
            return None
    with Database(database, url).reading() as db:
        row = db.execute(_NEUTRALISED, (f"public.{MODULES}",)).fetchone()
        odoo = row == (True, True)
        flag = db.execute(_FLAG).fetchone() if odoo else None
        found = db.execute("SELECT oid::int8 FROM pg_database WHERE datname = current_database()").fetchone()
    if flag is None or str(flag[0]).lower() not in ("true", "1", "t"):
        what = "a production database, or was never neutralised" if odoo else "not an Odoo's database"
        raise PreflightError(
            f"odoo_db: {database} is {what}, and is not replaced. Hint: name the database of a copy, or a new one"
        )
    return int(str(found[0])) if found else None


def check_may_replace(database: str, url: str) -> None:
    """The room may rename the database that stands under the name of a copy, and drop it afterwards.

    Raises PreflightError for what would stop that once the new one is there, hours later. That the role may make
    databases is asked where it makes one.
    """
    with connect(url) as server:
        row = server.execute(_MAY_RENAME, (database,)).fetchone()
        give_up_at = time.monotonic() + _PASSING_SECONDS
        while (staying := server.execute(_STAYING.encode(), (database,)).fetchone()) and time.monotonic() < give_up_at:
            time.sleep(0.1)  # whoever only looks in is gone by then
        prepared = server.execute(_PREPARED, (database,)).fetchone()
        slot = server.execute(_SLOT, (database,)).fetchone()
        subscription = server.execute(_SUBSCRIPTION, (database,)).fetchone()
        user, own = server.info.user, server.info.dbname
    if row is None:
        return
    if own == database:
        raise PreflightError(
            f"odoo_db: {database} cannot be replaced by who is connected to it. Hint: let OPS_ODOO_DATABASE_URL name "
            "`postgres` as its database"
        )
    if not row[0]:
        owner = shown(str(row[1]))
        raise PreflightError(
            f"odoo_db: role {shown(user)} may not rename {database}, which belongs to {owner}. Hint: as a superuser, "
            f"GRANT {owner} TO {shown(user)}"
        )
    if staying is not None:
        who = shown(str(staying[0]))
        raise PreflightError(
            f"odoo_db: role {shown(user)} may not end the sessions of {who} in {database}, which cannot be renamed "
            f"while they last. Hint: end them, or if {who} is not a superuser, GRANT pg_signal_backend TO {shown(user)}"
        )
    if prepared is not None:
        gid, by = (shown(str(one)) for one in prepared)
        raise PreflightError(
            f"odoo_db: {database} holds the prepared transaction {gid!r} of role {by}, and cannot be renamed while "
            f"that waits. Hint: connect to {database} and COMMIT PREPARED '{gid}', or ROLLBACK PREPARED '{gid}'"
        )
    if slot is not None:
        name = shown(str(slot[0]))
        raise PreflightError(
            f"odoo_db: the replication slot {name!r} of {database} is in use, and the database cannot be dropped once "
            "it is replaced. Hint: drop the subscription that uses it"
        )
    if subscription is not None:
        name = shown(str(subscription[0]))
        raise PreflightError(
            f"odoo_db: {database} has the subscription {name!r}, and cannot be dropped once it is replaced. Hint: "
            f"connect to {database} and DROP SUBSCRIPTION {name}"
        )


def check_filestore(database: str, folder: Path | None, url: str) -> None:
    """A filestore that is there belongs to a copy: marked as one, or that of a database that is there.

    Raises PreflightError for somebody else's.
    """
    if folder is None or not folder.is_dir() or (folder / MARK).exists() or not any(folder.iterdir()):
        return
    with connect(url) as server:
        if not is_there(server, database):
            raise PreflightError(
                f"filestore_dir: {folder} is not a copy's: it holds files, and the server has no database {database}. "
                "Hint: name the copy's own folder, or move this one away"
            )


def partial_name(folder: Path, run_id: UUID) -> str:
    """What the filestore of a copy is called until it takes its place."""
    return f".{folder.name}.{run_id.hex}.partial"


def clear_replaced(database: str, folder: Path | None) -> list[str]:
    """Drop what killed runs left of this copy, old or new, under names of their own; returns those.

    The runs of one copy exclude each other, so that none of them lives.
    """
    cleared = []
    with connect(current_run().settings.odoo_url) as server:
        for (name,) in server.execute(_ASIDE, (_comment(database),)).fetchall():
            try:
                drop_database(server, str(name))
            except psycopg.Error as error:  # a replication slot may hold it: that stops no new copy
                told = f"{name}, a previous copy, cannot be dropped: {first_line(error)}. Drop it by hand"
                current_run().event(told, level="warning")
            else:
                cleared.append(str(name))
    if folder is not None and folder.parent.is_dir():
        left = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{32}}\.partial")
        handle = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in sorted(filter(left.fullmatch, os.listdir(handle))):  # noqa: PTH208 - of the folder that is open
                shutil.rmtree(name, ignore_errors=True, dir_fd=handle)
                cleared.append(name)
        finally:
            os.close(handle)
    return cleared


class Replaced:
    """The database that a new one takes the place of."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.aside = f"ops_replaced_{current_run().id.hex}"

    def set_aside(self, server: Connection) -> None:
        """Rename it, if it is there, in the open transaction of `server`, and end its sessions.

        From then on until the transaction ends, whoever connects waits. It is judged once more: hours have passed since
        the preflight. Raises psycopg.Error, StepFailedError and PreflightError.
        """
        if not is_there(server, self.database):
            return
        old, new = sql.Identifier(self.database), sql.Identifier(self.aside)
        until, url = time.monotonic() + _RENAME_SECONDS, current_run().settings.odoo_url
        while True:
            judged = check_replaceable(self.database, url)
            try:  # RENAME keeps out whoever comes next, and waits 5 s for the end of those that are there
                with sessions_ended(lambda: connect(url), self.database), server.transaction():
                    server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, new))
                break
            except psycopg.errors.ObjectInUse as error:
                if time.monotonic() > until:
                    raise StepFailedError(
                        f"{self.database} cannot be replaced: {first_line(error)}. Hint: pg_stat_activity shows who "
                        "connects again and again, and pg_prepared_xacts what waits in it; end that"
                    ) from error
        row = server.execute(
            "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = %s", (self.aside,)
        ).fetchone()
        if row != (judged,):
            raise StepFailedError(f"{self.database} became another database meanwhile: nothing was replaced")
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(new))
        comment = sql.Literal(_comment(self.database))
        server.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(new, comment))

    def is_aside(self) -> bool:
        """Whether the new one has taken its place."""
        with connect(current_run().settings.odoo_url) as server:
            return is_there(server, self.aside)

    def drop(self) -> None:
        """Drop it, once it is aside. Raises StepFailedError."""
        try:
            with connect(current_run().settings.odoo_url) as server:
                drop_database(server, self.aside)
        except (PreflightError, psycopg.Error) as error:
            raise StepFailedError(
                f"{self.database} was replaced, but {self.aside}, the previous one, cannot be dropped: {error}. The "
                "next run drops it"
            ) from error


def _comment(database: str) -> str:
    return f"{database} until a run of the Ops Control Room replaced it, which drops it"
