"""A snapshot of a database that pg_dump takes over, while what the database is and holds in it is recorded."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import Self

import psycopg

from flows.backup.attachments import read_names
from flows.backup.contents import lock_tables, pin_settings, read_large_objects, read_sequences, read_tables
from flows.backup.database import Database
from flows.backup.extensions import Extension, read_extensions
from flows.backup.inventory import Inventory, read_objects
from flows.backup.manifest import Contents, SequenceValue
from flows.backup.postgres import Connection, connect
from flows.backup.properties import Properties, read_properties
from opsdb.database import first_line
from opsdb.errors import StepFailedError, StepTimeoutError

log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a database was in its snapshot: what a manifest says of it."""

    contents: Contents
    properties: Properties | None = None
    extensions: list[Extension] | None = None
    inventory: Inventory | None = None
    attachments: set[str] | None = None
    """The names of its files in the filestore, where it is an Odoo's."""


class Snapshot:
    """A snapshot of one database. From open() on a thread reads what it holds, until the end of a `with` block."""

    def __init__(self, database: Database, *, statement_seconds: float) -> None:
        self.id = ""
        """The name under which pg_dump takes the snapshot over, once it is open."""
        self._database = database
        self._statement_seconds = statement_seconds
        self._db: Connection | None = None
        self._thread = threading.Thread(target=self._read, name="fingerprint", daemon=True)
        self._sequences: dict[str, tuple[int, bool]] = {}
        self._found: Recorded | None = None
        self._error: psycopg.Error | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Raises StepFailedError where none can be had."""
        self._db = db = connect(self._database.url, database=self._database.name)
        try:
            pin_settings(db, statement_seconds=self._statement_seconds)
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            row = db.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
            lock_tables(db)
            self._sequences = read_sequences(db)
        except psycopg.Error as error:
            raise StepFailedError(f"cannot make a snapshot of the database: {first_line(error)}") from error
        self.id = str(row[0]) if row else ""
        self._thread.start()

    def recorded(self, *, timeout: float) -> Recorded:
        """What the database held, as soon as all is read. Call it after the dump: sequences are read once more.

        Raises StepTimeoutError after `timeout` seconds, StepFailedError where the server could not read something.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise StepTimeoutError(f"the rows were not counted and hashed within {timeout:.0f} s after the dump")
        self.check()
        if self._db is None or self._found is None:
            raise StepFailedError("cannot count and hash the rows: the snapshot was not opened")
        after = read_sequences(self._db)
        sequences = {
            name: SequenceValue(before=value, after=after.get(name, value)) for name, value in self._sequences.items()
        }
        return replace(self._found, contents=self._found.contents.model_copy(update={"sequences": sequences}))

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
            if self._thread.is_alive():
                self._db.cancel_safe(timeout=_STOP_SECONDS)
                self._thread.join(_STOP_SECONDS)
        except psycopg.Error as error:
            log.warning("the reading of the rows could not be cancelled: %s", error)
        finally:
            self._db.close()

    def _read(self) -> None:
        if self._db is None:
            return
        try:
            self._found = Recorded(  # definitions first: as soon as pg_dump reads them
                properties=read_properties(self._db, self._database.name),
                extensions=read_extensions(self._db),
                inventory=Inventory.of(read_objects(self._db)),
                attachments=read_names(self._db),
                contents=Contents(
                    tables=read_tables(self._db), sequences={}, large_objects=read_large_objects(self._db)
                ),
            )
        except psycopg.Error as error:
            self._error = error
