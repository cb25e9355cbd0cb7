"""An outage of the ops database: it cannot keep who was notified of it, so a small file in OPS_HOME does."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from exporter.alerting.messages import outage_begins, outage_ends
from opsdb.alerts.outbox import Message

log = logging.getLogger(__name__)

TELL_AFTER_SECONDS = 30.0
"""A restart of the database takes less: those are not reported."""


class Outage:
    """Says to each destination once that an outage began, and to those that heard it once that it is over.

    Told across restarts of this process. The times are this host's: the database's clock is away.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._since, self._told = self._read()
        self._answers: bool | None = None
        self._down_at = 0.0

    def note(self, *, answers: bool) -> None:
        """Say whether the database answered just now."""
        with self._lock:
            if answers:
                if not self._told:
                    self._since = None
            elif self._answers is not False:
                self._down_at = time.monotonic()
                self._since = self._since or datetime.now(UTC)
            self._answers = answers

    def message(self, destination: str) -> Message | None:
        """The message that the destination gets now, if any."""
        with self._lock:
            if self._since is None or self._answers is None:
                return None
            told = destination in self._told
            if self._answers:
                return outage_ends(self._since) if told else None
            lasted = time.monotonic() - self._down_at
            return outage_begins(self._since) if lasted >= TELL_AFTER_SECONDS and not told else None

    def note_told(self, destination: str, message: Message) -> None:
        """The destination has the message."""
        with self._lock:
            if self._since is not None and message == outage_begins(self._since):
                self._told.add(destination)
            else:
                self._told.discard(destination)
            if not self._told and self._answers:
                self._since = None
            self._write()

    def _read(self) -> tuple[datetime | None, set[str]]:
        try:
            kept = json.loads(self._path.read_text())
            return datetime.fromisoformat(kept["since"]), {str(name) for name in kept["told"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None, set()

    def _write(self) -> None:
        try:
            if not self._told or self._since is None:
                self._path.unlink(missing_ok=True)
                return
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps({"since": self._since.isoformat(), "told": sorted(self._told)}))
            fresh.replace(self._path)
        except OSError as error:
            log.warning("%s: %s; a restart during this outage would report it again", self._path, error.strerror)
