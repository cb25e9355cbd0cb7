"""Marks that an upgrade leaves in a database when it ends in the middle, and how they are taken back.

A module that stands `to upgrade` is upgraded by whichever Odoo next loads the database: a web server carries on with
what was cancelled. Odoo takes its marks back only where an upgrade fails by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg

from flows.backup.database import Database
from flows.backup.postgres import Connection
from flows.odoo.modules import Module, read_modules_of
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError

BEFORE_MARK = {"to install": "uninstalled", "to upgrade": "installed", "to remove": "installed"}
"""The state of a module before Odoo marked it, as Odoo itself puts it back."""
SESSIONS_SECONDS = 10.0
_UPDATE_SECONDS = 15.0
MARKS_SECONDS = int(SESSIONS_SECONDS + _UPDATE_SECONDS) + 5
"""What putting marks back takes at most, with the time to connect."""
_TABLE = "public.ir_module_module"
_BY_HAND = (
    "UPDATE ir_module_module SET state = CASE state WHEN 'to install' THEN 'uninstalled' ELSE 'installed' END "
    "WHERE state LIKE 'to %'"
)
_OF_ODOO = """
SELECT pid, coalesce(host(client_addr), 'this host'), application_name FROM pg_catalog.pg_stat_activity
WHERE datname = pg_catalog.current_database() AND application_name LIKE 'odoo-%' AND pid <> pg_catalog.pg_backend_pid()
ORDER BY 1
"""
# What the owner of the database could have a superuser execute by this update. Odoo has nothing of the kind there.
_FOREIGN = """
SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = t.oid AND NOT tgisinternal
UNION ALL SELECT rulename FROM pg_catalog.pg_rewrite WHERE ev_class = t.oid
UNION ALL SELECT polname FROM pg_catalog.pg_policy WHERE polrelid = t.oid
UNION ALL SELECT conname FROM pg_catalog.pg_constraint WHERE conrelid = t.oid AND contype IN ('c', 'x')
UNION ALL SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = t.oid AND (attgenerated <> ''
    OR attname IN ('id', 'name', 'state') AND atttypid NOT IN
    ('pg_catalog.int4'::regtype, 'pg_catalog.text'::regtype, 'pg_catalog.varchar'::regtype))
UNION ALL SELECT indexrelid::regclass::text FROM pg_catalog.pg_index
    WHERE indrelid = t.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL)
UNION ALL SELECT 'public.ir_module_module' WHERE t.relkind <> 'r' OR t.relhassubclass
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back, by module the mark that it had; and all modules as they stand now."""

    marks: dict[str, str]
    modules: dict[str, Module]


def check_may_put_back(database: str, *, url: str) -> None:
    """Raise PreflightError unless the room may put marks back: afterwards Odoo would have to stay stopped."""
    with Database(database, url).reading() as db:
        user = db.info.user
        try:
            row = db.execute(
                "SELECT pg_catalog.has_table_privilege(%s, 'UPDATE') OR pg_catalog.has_column_privilege(%s, 'state', "
                "'UPDATE')",
                (_TABLE, _TABLE),
            ).fetchone()
            foreign = _foreign(db)
        except psycopg.Error as error:
            raise PreflightError(
                f"{database} does not say whether {_TABLE} can be put back: {first_line(error)}"
            ) from None
    if not (row and row[0]):
        raise PreflightError(
            f"role {user!r} may not update {_TABLE} in {database}, so it could not put back what an upgrade that fails "
            "leaves marked. Hint: let OPS_ODOO_DATABASE_URL name the role of Odoo, or one that is a member of it"
        )
    if foreign:
        raise PreflightError(
            f"{_TABLE} in {database} has what Odoo does not give it, so the room could not put back what an upgrade "
            f"that fails leaves marked: {foreign}. Hint: drop it, or upgrade by hand"
        )


def wait_until_alone(database: str, *, url: str, seconds: float = SESSIONS_SECONDS) -> None:
    """Return when no Odoo is connected to the database. Raises StepFailedError that names those which stay."""
    with Database(database, url).connect() as db:
        give_up_at = time.monotonic() + seconds
        while left := _sessions(db):
            if time.monotonic() > give_up_at:
                named = ", ".join(f"{name} from {address}" for _, address, name in left[:5])
                raise StepFailedError(
                    f"another Odoo is connected to {database}, though the service is stopped: {named}. It would work "
                    "in the middle of the upgrade: stop it, then start the upgrade again"
                )
            time.sleep(0.1)


def put_marks_back(database: str, *, url: str, seconds: float = SESSIONS_SECONDS) -> Restored:
    """Put each module that stands `to ...` back to the state that it had before, when no Odoo works on it any more.

    Sessions that an Odoo left, and that may still run a long statement, are ended. Raises StepFailedError, and
    PreflightError as `Database.connect` does.
    """
    with Database(database, url).connect() as db:
        _end_sessions(db, seconds)
        try:
            with db.transaction():
                db.execute("SET LOCAL search_path = pg_catalog")
                return _put_back(db, database, until=time.monotonic() + _UPDATE_SECONDS)
        except psycopg.Error as error:
            raise StepFailedError(
                f"the states of modules in {database} could not be put back: {first_line(error)}. By hand, as Odoo's "
                f"role: {_BY_HAND}"
            ) from error


def _put_back(db: Connection, database: str, *, until: float) -> Restored:
    def limit() -> None:  # all statements together have that time
        left = max(1, int(1000 * (until - time.monotonic())))
        db.execute(f"SET LOCAL statement_timeout = {left}")

    limit()
    if foreign := _foreign(db):
        raise StepFailedError(
            f"the states of modules in {database} are not put back: {_TABLE} has what Odoo does not give it, and what "
            f"would run with the room's rights: {foreign}. Hint: drop that"
        )
    limit()
    found = db.execute(
        f"SELECT name, state FROM {_TABLE} WHERE state = ANY(%s) ORDER BY name FOR UPDATE",  # noqa: S608 - the same
        (list(BEFORE_MARK),),
    ).fetchall()
    for mark, state in BEFORE_MARK.items():
        limit()
        db.execute(f"UPDATE {_TABLE} SET state = %s WHERE state = %s", (state, mark))  # noqa: S608 - the same
    limit()
    return Restored({str(name): str(mark) for name, mark in found}, read_modules_of(db))


def _foreign(db: Connection) -> str:
    found = db.execute(
        f"SELECT found FROM pg_catalog.pg_class t, LATERAL ({_FOREIGN}) AS f(found) "  # noqa: S608 - a constant
        f"WHERE t.oid = '{_TABLE}'::pg_catalog.regclass ORDER BY 1"
    ).fetchall()
    return ", ".join(str(name) for (name,) in found[:5])


def _sessions(db: Connection) -> list[tuple[object, ...]]:
    return db.execute(_OF_ODOO).fetchall()


def _end_sessions(db: Connection, seconds: float) -> None:
    """End the sessions of Odoo. A session that the room's role may not end is waited for by the locks that it holds."""
    give_up_at = time.monotonic() + seconds
    while (left := _sessions(db)) and time.monotonic() < give_up_at:
        for pid, _, _ in left:
            try:
                db.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (pid,))
            except psycopg.errors.InsufficientPrivilege:
                return
        time.sleep(0.05)
