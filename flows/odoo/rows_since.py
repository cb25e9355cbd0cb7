"""What was written into a database since it was protected: what a rollback takes out of the live database."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from flows.backup.contents import list_tables, read_rows
from flows.backup.database import Database
from flows.backup.inventory import GoneError, unquoted
from flows.backup.manifest import Rows
from flows.backup.pinned import encoded, pin_settings
from flows.backup.postgres import Connection

COUNT_SECONDS = 120.0
"""How long rows are counted, all in all: a person waits for it."""
SHOWN = 6
"""Tables in one message."""
# What an upgrade writes itself, or what says little to a person: behind the others.
_OF_ODOO = re.compile(r"(?:public\.)?(?:ir|base|bus|iap|report|web|auth|publisher)_|.*_rel$")
_WRITTEN = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attname = 'write_date' AND NOT attisdropped
  AND atttypid IN ('timestamp'::pg_catalog.regtype, 'timestamptz'::pg_catalog.regtype))
"""


@dataclass(frozen=True, slots=True)
class Since:
    """The tables that differ, the most telling first, each as a phrase."""

    changed: list[str]
    uncounted: list[str]
    """Tables that were not counted in time, or that nobody counted before."""

    @property
    def words(self) -> str:
        """All that is shown of it in one line."""
        more = f", and {len(self.changed) - SHOWN} more tables" if len(self.changed) > SHOWN else ""
        told = ", ".join(self.changed[:SHOWN]) + more if self.changed else "no rows differ"
        return told + (f"; not counted: {_few(self.uncounted)}" if self.uncounted else "")


@dataclass(frozen=True, slots=True)
class Counted:
    """The tables of a database by name, without needless quotes."""

    rows: dict[str, Rows]
    written: dict[str, int]
    """Rows whose `write_date` is later than a time, of tables that have one."""
    left: set[str]
    """Tables that were not counted: in time, or for a lock that somebody holds."""


def count_rows(database: Database, *, since: str | None = None) -> Counted:
    """Count and hash the rows of a database, the small tables first, for COUNT_SECONDS at most.

    `since` is a time as the server reads it (UTC), for the rows that were written later. Raises PreflightError where
    the database is out of reach.
    """
    until = time.monotonic() + COUNT_SECONDS
    parts: dict[str, list[Rows]] = {}
    written: dict[str, int] = {}
    left = set[str]()
    with database.connect() as db:
        pin_settings(db, statement_seconds=COUNT_SECONDS)
        tables = list_tables(db)
        sizes = _sizes(db)
        for table in sorted(tables, key=lambda one: sizes.get(one.oid, 0)):
            name = unquoted(table.label)
            remaining = until - time.monotonic()
            if remaining <= 0:
                left.add(name)
                continue
            try:
                db.execute("SELECT set_config('statement_timeout', %s, false)", (str(int(remaining * 1000) + 1),))
                db.execute("SELECT set_config('lock_timeout', '2s', false)")
                parts.setdefault(name, []).append(read_rows(db, table))
                if since and (found := _written_since(db, table.oid, table.lock, since)) is not None:
                    written[name] = written.get(name, 0) + found
            except (GoneError, psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
                left.add(name)
    return Counted({name: _together(rows) for name, rows in parts.items() if name not in left}, written, left)


def rows_since(database: Database, before: Mapping[str, Rows], since: str, *, unknown: Collection[str] = ()) -> Since:
    """Compare the rows of a database with the previous ones, table by table. Tables in `unknown` were not counted then.

    Raises PreflightError where the database is out of reach.
    """
    known = {unquoted(name): rows for name, rows in before.items()}
    counted = count_rows(database, since=since)
    left = counted.left | {unquoted(name) for name in unknown}
    phrases = {
        name: phrase
        for name in known.keys() | counted.rows.keys()
        if name not in left
        and (phrase := _phrase(name, known.get(name), counted.rows.get(name), counted.written.get(name)))
    }
    order = sorted(phrases, key=lambda name: (bool(_OF_ODOO.match(name)), name))
    return Since([phrases[name] for name in order], sorted(left))


def _phrase(name: str, before: Rows | None, now: Rows | None, written: int | None) -> str | None:
    """What differs of a table; None where nothing does."""
    short = name.removeprefix("public.")
    if before is None or now is None:
        return f"{short} (did not exist)" if now else f"{short} (is gone)"
    if before == now:
        return None
    added = now.rows - before.rows
    told = [f"{added:+,} rows"] if added else []
    if written:
        told.append(f"{written:,} written")
    return f"{short} ({', '.join(told) or 'other contents'})"


def _written_since(db: Connection, oid: int, table: bytes, since: str) -> int | None:
    """Rows whose write_date is later; None where the table has none. Odoo writes it in UTC."""
    row = db.execute(_WRITTEN, (oid,)).fetchone()
    if not (row and row[0]):
        return None
    query = b"SELECT count(*) FROM " + table + b" WHERE write_date > "
    row = db.execute(query + encoded(db, sql.Literal(since).as_string(db))).fetchone()
    return int(str(row[0])) if row else None


def _sizes(db: Connection) -> dict[int, int]:
    rows = db.execute("SELECT oid, relpages FROM pg_catalog.pg_class WHERE relkind = 'r'").fetchall()
    return {int(str(oid)): int(str(pages)) for oid, pages in rows}


def _together(parts: list[Rows]) -> Rows:
    total = sum(int(one.hash, 16) for one in parts) % 2**64
    return Rows(rows=sum(one.rows for one in parts), hash=f"{total:016x}")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
