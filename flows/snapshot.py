"""A snapshot of a database that pg_dump takes over, while what the database holds in it is counted and hashed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from flows.database_contents import (
    Contents,
    Rows,
    SequenceValue,
    lock_tables,
    pin_settings,
    read_large_objects,
    read_sequences,
    read_tables,
)
from flows.postgres_access import Database
from opsdb.errors import StepFailedError, StepTimeoutError

log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0


class Snapshot:
    """An open snapshot with the name `id`. A thread reads its contents from the moment it is made."""

    def __init__(self, db: Database, *, statement_seconds: float) -> None:
        self._db = db
        self._tables: dict[str, Rows] | None = None
        self._large_objects: Rows | None = None
        self._error: psycopg.Error | None = None
        pin_settings(db, statement_seconds=statement_seconds)
        db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = db.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
        self.id = str(row[0]) if row else ""
        lock_tables(db)
        self._sequences = read_sequences(db)
        self._thread = threading.Thread(target=self._read, name="fingerprint", daemon=True)
        self._thread.start()

    def contents(self, *, timeout: float) -> Contents:
        """What the database held, as soon as all is read. Call it after the dump: sequences are read once more.

        Raises StepTimeoutError after `timeout` seconds, StepFailedError where the server could not read something.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise StepTimeoutError(f"the rows were not counted and hashed within {timeout:.0f} s after the dump")
        if self._error is not None or self._tables is None or self._large_objects is None:
            raise StepFailedError(f"cannot count and hash the rows: {str(self._error).strip()}")
        after = read_sequences(self._db)
        return Contents(
            tables=self._tables,
            sequences={
                name: SequenceValue(before=value, after=after.get(name, value))
                for name, value in self._sequences.items()
            },
            large_objects=self._large_objects,
        )

    def close(self) -> None:
        """Let go of the snapshot; what is still being read is cancelled."""
        try:
            if self._thread.is_alive():
                self._db.cancel_safe(timeout=_STOP_SECONDS)
                self._thread.join(_STOP_SECONDS)
        except psycopg.Error as error:
            log.warning("the reading of the rows could not be cancelled: %s", error)
        finally:
            self._db.close()

    def _read(self) -> None:
        try:
            self._tables = read_tables(self._db)
            self._large_objects = read_large_objects(self._db)
        except psycopg.Error as error:
            self._error = error


@contextmanager
def snapshot(db: Database, *, statement_seconds: float) -> Iterator[Snapshot]:
    """A snapshot on `db`, which is closed at the end. Raises StepFailedError where none can be had."""
    try:
        made = Snapshot(db, statement_seconds=statement_seconds)
    except psycopg.Error as error:
        db.close()
        raise StepFailedError(f"cannot make a snapshot of the database: {str(error).strip()}") from error
    except BaseException:
        db.close()
        raise
    try:
        yield made
    finally:
        made.close()
