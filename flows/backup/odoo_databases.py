"""Which databases of the server are Odoo's, for those who have to name one."""

from __future__ import annotations

import re
import time

import psycopg

from flows.backup.names import DATABASE_PATTERN
from flows.backup.postgres import QUIET, Connection, connect
from opsdb.errors import PreflightError

CONNECT_SECONDS = 2
ALL_SECONDS = 5.0
"""How long the databases are looked at, all in all: who asks waits for it."""
MOST = 100
"""Databases that are looked at."""
OPEN = """
SELECT datname FROM pg_catalog.pg_database
WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres' AND pg_catalog.has_database_privilege(oid, 'CONNECT')
ORDER BY 1
"""
IS_ODOO = "SELECT pg_catalog.to_regclass('public.ir_module_module') IS NOT NULL"


def find_odoo_databases(url: str) -> list[str] | None:
    """The names of the databases with Odoo's tables, in order; None when the server does not answer in time.

    Names that no runbook takes are left out: such a name is text from outside, and may be anything.
    """
    until = time.monotonic() + ALL_SECONDS
    try:
        with _connected(url) as server:
            names = [str(name) for (name,) in server.execute(OPEN).fetchall()]
            # of what a database brings with it nothing may run as a superuser
            may = server.info.server_version >= 170000 and server.info.parameter_status("is_superuser") == "on"
    except (PreflightError, psycopg.Error):
        return None
    fit = [name for name in names if re.fullmatch(DATABASE_PATTERN, name)][:MOST]
    options = QUIET if may else ""
    found = [name for name in fit if time.monotonic() < until and _is_odoo(url, name, options)]
    return found if time.monotonic() < until else None


def _is_odoo(url: str, database: str, options: str) -> bool:
    try:
        with _connected(url, database=database, options=options) as db:
            row = db.execute(IS_ODOO).fetchone()
    except (PreflightError, psycopg.Error):
        return False
    return row is not None and bool(row[0])


def _connected(url: str, *, database: str | None = None, options: str = "") -> Connection:
    db = connect(url, database=database, options=options, connect_seconds=CONNECT_SECONDS)
    db.execute("SET statement_timeout = '2s'")  # not by an option, which a pooler may refuse
    return db
