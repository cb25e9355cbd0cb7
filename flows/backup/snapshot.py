"""A snapshot of a database that pg_dump takes over, while what the database is and holds in it is recorded.

No other program waits longer for this than for pg_dump. What is read is locked once pg_dump has locked it, and not
before: else a program that waits for us would keep pg_dump waiting, for which we wait. When the dump is made, all is
let go of as soon as anybody waits for it. What could not be read by then is named, and the backup is good all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import psycopg

from flows.backup.attachments import read_names
from flows.backup.changes import read_definitions_sums
from flows.backup.contents import (
    LARGE_OBJECTS,
    Table,
    add_rows,
    list_tables,
    lock_statement,
    read_large_objects,
    read_rows,
)
from flows.backup.database import Database
from flows.backup.extensions import Extension, read_extensions
from flows.backup.inventory import KINDS, ROLES, GoneError, Inventory, read_kind
from flows.backup.manifest import Contents, Rows
from flows.backup.pinned import pin_settings
from flows.backup.postgres import Connection
from flows.backup.properties import Properties, read_properties
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError

Reading = Callable[[Connection], Any]

log = logging.getLogger(__name__)

_ROUNDS = 10
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_LOCKED_BY_ANOTHER = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessShareLock' AND granted
  AND pid <> pg_backend_pid() AND relation = ANY (%s)
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  GROUP BY pid HAVING count(*) = %s)
"""
_KEEPS_WAITING = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE NOT granted AND %s = ANY (pg_catalog.pg_blocking_pids(pid)))
"""


@dataclass(slots=True)
class Recorded:
    """What a database was in its snapshot: what a manifest says of it. `left` names what could not be read, and why."""

    contents: Contents = field(default_factory=Contents.empty)
    properties: Properties | None = None
    extensions: list[Extension] | None = None
    inventory: Inventory | None = None
    attachments: set[str] | None = None
    """The names of its files in the filestore, where it is an Odoo's."""
    left: dict[str, str] = field(default_factory=dict)


class Snapshot:
    """A snapshot of one database. From open() on a thread reads what it holds, until the end of a `with` block."""

    def __init__(self, database: Database, *, statement_seconds: float) -> None:
        self.id = ""
        """The name under which pg_dump takes the snapshot over, once it is open."""
        self._database = database
        self._statement_seconds = statement_seconds
        self._db: Connection | None = None
        self._pid = 0
        self._thread = threading.Thread(target=self._run, name="fingerprint", daemon=True)
        self._dumped, self._defined, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._tables: list[Table] = []
        self._left: dict[str, Reading] = {}
        self._found: dict[str, Any] = {}
        self._why: dict[str, str] = {}
        """Why something was not read when it was tried last."""
        self._lost = "another program waited for it, or its time was over"
        """Why nothing more was read."""
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Raises StepFailedError where none can be had."""
        self._db = db = self._database.connect()
        try:
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY NOT DEFERRABLE")
            pin_settings(db, statement_seconds=self._statement_seconds, local=True)
            row = db.execute("SELECT pg_export_snapshot(), pg_backend_pid()").fetchone()
            self._tables = list_tables(db)
        except psycopg.Error as error:
            raise StepFailedError(f"cannot make a snapshot of the database: {first_line(error)}") from error
        self.id, self._pid = (str(row[0]), int(str(row[1]))) if row else ("", 0)
        self._thread.start()

    def recorded(self, *, timeout: float) -> Recorded:
        """What the database held. Call it when the dump is made.

        It waits until all is read, for `timeout` seconds at most, and only as long as nobody else waits for it.
        Raises StepFailedError where the server could not read something.
        """
        self._dumped.set()
        until = time.monotonic() + timeout
        self._thread.join(_LOOK_SECONDS)
        if self._thread.is_alive():
            self._wait(until)
        self.check()
        return self._recorded()

    def check(self) -> None:
        """Raises StepFailedError where something could not be read: the snapshot is gone then, for pg_dump as well."""
        if self._error is not None:
            said = "; ".join(line.strip() for line in str(self._error).splitlines() if line.strip())
            raise StepFailedError(f"cannot count and hash the rows: {said}") from self._error

    def close(self) -> None:
        """Let go of the snapshot; what is still being read is cancelled."""
        if self._db is None:
            return
        try:
            self._give_up()
        finally:
            self._db.close()

    def _wait(self, until: float) -> None:
        """Until all is read, the time is over, or somebody waits for what is held here."""
        try:
            with self._database.connect() as watch:
                while self._thread.is_alive() and time.monotonic() < until:
                    row = watch.execute(_KEEPS_WAITING, (self._pid,)).fetchone()
                    if row and row[0] and self._defined.is_set():
                        break
                    self._thread.join(_LOOK_SECONDS)
        except (PreflightError, psycopg.Error) as error:
            log.warning("it cannot be seen whether somebody waits for the reading of the rows: %s", error)
        self._give_up()

    def _give_up(self) -> None:
        if self._db is None or not self._thread.is_alive():
            return
        self._given_up.set()
        self._dumped.set()
        until = time.monotonic() + _STOP_SECONDS
        try:
            while self._thread.is_alive() and time.monotonic() < until:
                self._db.cancel_safe(timeout=_STOP_SECONDS)  # again: a statement may begin after one
                self._thread.join(_LOOK_SECONDS)
        except psycopg.Error as error:
            log.warning("the reading of the rows could not be cancelled: %s", error)

    def _run(self) -> None:
        if self._db is None:
            return
        try:
            self._read(self._db)
        except Exception as error:
            self._error = None if self._given_up.is_set() else error
        finally:
            self._db.close()  # pg_dump has the snapshot and its own locks, or has failed

    def _read(self, db: Connection) -> None:
        """What another program holds at the moment is left until the dump is made."""
        definitions = self._definitions()
        self._left = definitions | {_key(table): partial(read_rows, table=table) for table in self._tables}
        self._left[LARGE_OBJECTS] = read_large_objects
        self._lock(db)
        db.execute("SET LOCAL lock_timeout = '200ms'")  # less than the time after which a deadlock ends a program
        self._try(db, definitions)
        compared = self._compare_definitions(db)
        self._defined.set()
        self._try(db, self._left)
        if self._left or not compared:
            self._dumped.wait()
            if not compared:  # there is a connection more now
                self._compare_definitions(db)
            for _ in range(_ROUNDS):
                self._try(db, self._left)

    def _compare_definitions(self, db: Connection) -> bool:
        """Drop what was read of definitions that were changed since the snapshot; False where nobody can tell."""
        try:
            with self._database.connect() as now:
                now.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE")
                pin_settings(now, statement_seconds=self._statement_seconds, local=True)
                changed = read_definitions_sums(now) != read_definitions_sums(db)
                now.rollback()
        except PreflightError:
            return False
        for kind in (*KINDS, *ROLES):
            if changed and self._found.pop(kind, None) is not None:
                self._why[kind] = "definitions were changed while they were read"
        return True

    def _definitions(self) -> dict[str, Reading]:
        return {
            "properties": partial(read_properties, database=self._database.name),
            "extensions": read_extensions,
            **{kind: partial(read_kind, kind=kind) for kind in (*KINDS, *ROLES)},
            "attachments": read_names,
        }

    def _try(self, db: Connection, wanted: Iterable[str]) -> None:
        for name in list(wanted):
            if self._given_up.is_set():
                return
            try:
                with db.transaction():
                    self._found[name] = self._left[name](db)
            except (
                psycopg.errors.LockNotAvailable,  # somebody waits until pg_dump lets go of it
                psycopg.errors.QueryCanceled,  # it takes too long
                psycopg.errors.UndefinedTable,  # it was dropped after the dump
                psycopg.errors.UndefinedColumn,
                psycopg.errors.InternalError_,  # so was what a definition names
                psycopg.errors.ProgramLimitExceeded,  # a row is too large to be shown
                psycopg.errors.OutOfMemory,
                GoneError,
            ) as error:
                self._why[name] = first_line(error)
            else:
                del self._left[name]

    def _lock(self, db: Connection) -> None:
        """Once pg_dump has locked all tables, do so too, that nobody gets one before it is counted."""
        oids = [table.oid for table in self._tables]
        if not oids:
            return
        while not self._dumped.is_set():
            row = db.execute(_LOCKED_BY_ANOTHER, (oids, len(oids))).fetchone()
            if row and row[0]:
                break
            self._dumped.wait(_LOOK_SECONDS)
        if self._dumped.is_set():
            return
        for tables in (self._tables, *([table] for table in self._tables)):
            try:
                with db.transaction():
                    db.execute(lock_statement(tables))
            except psycopg.errors.LockNotAvailable:
                continue
            except psycopg.errors.OutOfMemory:  # for more locks: each table is locked while it is counted
                return
            if tables is self._tables:
                return

    def _recorded(self) -> Recorded:
        rows: dict[str, Rows] = {}
        for table in self._tables:
            if _key(table) in self._found:
                add_rows(rows, table.label, self._found[_key(table)])
        uncounted = {table.label: self._reason(_key(table)) for table in self._tables if _key(table) in self._left}
        large_objects = self._found.get(LARGE_OBJECTS)
        if large_objects is None:
            uncounted[LARGE_OBJECTS] = self._reason(LARGE_OBJECTS)
        definitions = self._definitions()
        return Recorded(
            contents=Contents(
                tables={label: found for label, found in rows.items() if label not in uncounted},
                sequences={},
                large_objects=large_objects,
                uncounted=sorted(uncounted),
            ),
            properties=self._found.get("properties"),
            extensions=self._found.get("extensions"),
            inventory=Inventory.of({kind: self._found[kind] for kind in (*KINDS, *ROLES) if kind in self._found}),
            attachments=self._found.get("attachments"),
            left=uncounted | {name: self._reason(name) for name in definitions if name not in self._found},
        )

    def _reason(self, name: str) -> str:
        return self._why.get(name, self._lost)


def _key(table: Table) -> str:
    return f"table {table.oid}"
