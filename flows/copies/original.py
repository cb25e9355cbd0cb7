"""Whose copy a backup would be: the Odoo that it was made of, and whether that one is on the server."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable

import psycopg

from blocks.inherited import inherited
from flows.backup.archive import read_archive
from flows.backup.database import Database
from flows.backup.postgres import connect
from flows.copies.neutral import MODULES
from flows.restore.lookup import Found
from flows.restore.ready import Ready
from opsdb.errors import PreflightError

READ_SECONDS = 120
ALL_SECONDS = 30.0
_OTHERS = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
_COPY = re.compile(r"^COPY public\.ir_config_parameter \(([^)]*)\) FROM stdin;\n(.*?)^\\\.$", re.MULTILINE | re.DOTALL)


def is_odoo(found: Found) -> bool | None:
    """Whether the backup is an Odoo's, as far as it says; None for one of an older format that is elsewhere."""
    contents, inventory = found.manifest.contents, found.manifest.inventory
    if inventory is not None and "table" not in inventory.unread:
        return _names_modules(inventory.texts().get("table", {}))
    if contents is not None:
        return _names_modules((*contents.tables, *contents.uncounted))
    if found.target is not None:
        return None
    with (found.folder.path / found.manifest.file).open("rb") as dump:
        return any(one.name == MODULES for one in read_archive(dump).of("TABLE"))


def is_live_odoo(database: str, url: str) -> bool:
    """Whether a database on the server is an Odoo's. Raises PreflightError where it cannot be reached."""
    with Database(database, url).reading() as db:
        return db.execute("SELECT to_regclass(%s) IS NOT NULL", (f"public.{MODULES}",)).fetchone() == (True,)


def _names_modules(tables: Iterable[str]) -> bool:
    """In whatever schema: where it is not public, the restore says so."""
    return any(name.rpartition(".")[2] == MODULES for name in tables)


def same_odoo(ready: Ready, url: str) -> list[str] | None:
    """The databases on the server with the `database.uuid` of the backup.

    None where that is unknown: a database that could not be asked may be the one.
    """
    uuid = _uuid_in(ready)
    if uuid is None:
        return None
    with connect(url) as server:
        names = [str(name) for (name,) in server.execute(_OTHERS).fetchall()]
    until, same, unknown = time.monotonic() + ALL_SECONDS, list[str](), False
    for name in names:
        try:
            if time.monotonic() > until:
                unknown = True
            elif _uuid_of(name, url) == uuid:
                same.append(name)
        except (PreflightError, psycopg.Error):
            unknown = True
    return same or (None if unknown else [])


def _uuid_of(database: str, url: str) -> str | None:
    """None for one that is not an Odoo's. Raises PreflightError and psycopg.Error for one that cannot be asked."""
    with Database(database, url).reading() as db:
        if db.execute("SELECT to_regclass('public.ir_config_parameter')").fetchone() == (None,):
            return None
        row = db.execute("SELECT value::text FROM public.ir_config_parameter WHERE key = 'database.uuid'").fetchone()
    return None if row is None else str(row[0])


def _uuid_in(ready: Ready) -> str | None:
    """What the dump has of `database.uuid`, read as text; None where it is at a target, or has none."""
    if ready.target is not None:
        return None
    dump = ready.folder.path / ready.manifest.file
    only = ["--data-only", "--schema=public", "--table=ir_config_parameter", "--file=-"]
    try:
        done = subprocess.run(
            [str(ready.programs.pg_restore), *only, "--", str(dump)],
            env=inherited(),
            capture_output=True,
            timeout=READ_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return None
    match = _COPY.search(done.stdout.decode(errors="replace"))
    if match is None:
        return None
    columns = match[1].split(", ")
    for line in match[2].splitlines():
        row = dict(zip(columns, line.split("\t"), strict=False))
        if row.get("key") == "database.uuid":
            value = row.get("value")
            return None if value in ("", "\\N") else value
    return None
