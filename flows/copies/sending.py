"""Statements sent to a restored database one by one, within their limits, and counted."""

from __future__ import annotations

import psycopg

from flows.backup.postgres import Connection
from flows.copies.neutralised import Neutralised
from flows.copies.statements import Statement, TimeLimits, reason, send
from opsdb.errors import StepFailedError


class Sending:
    """Sends statements over one connection, and keeps in `done` what became of them."""

    def __init__(self, db: Connection, limits: TimeLimits, done: Neutralised) -> None:
        self._db, self._limits, self._done = db, limits, done

    def try_one(self, one: Statement, *, at: str = "") -> None:
        """Send one that may fail, since a check follows. Raises StepFailedError as send_one() does, but for that."""
        where = f"{one.title} ({at})" if at else one.title
        try:
            self._send(one, where)
        except psycopg.Error as error:
            self._done.failed[where] = reason(error)

    def send_one(self, one: Statement, *, where: str = "", hint: str) -> None:
        """Send one that may not fail: no check knows what it was for.

        Raises StepFailedError that names it, also where a limit is reached, and the server or its disk cannot continue.
        """
        try:
            self._send(one, where or one.title)
        except psycopg.Error as error:
            raise StepFailedError(
                f"{where or one.title}: {reason(error)}. Nothing was published. Hint: {hint}"
            ) from error

    def _send(self, one: Statement, where: str) -> None:
        try:
            with self._limits.kept(self._db, where):
                self._done.add(one.title, send(self._db, one.text))
        except psycopg.OperationalError as error:  # the server is gone, or its disk is full
            raise StepFailedError(f"{where}: {reason(error)}. Nothing was published") from error
