"""Delivers a run's entries and heartbeats to the database from one thread beside the run."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from opsdb.database import first_line, server_is_down
from opsdb.progress import Progress
from opsdb.record.entries import Entry, apply_line
from opsdb.record.journal import Journal, Line, abandoned, set_aside
from opsdb.runs.attempts import AttemptStatus, read_attempt_status, write_heartbeat
from opsdb.timings import Timings

log = logging.getLogger(__name__)


class Orders(Protocol):
    """What the database may tell a run process. Called from a thread of the recorder's."""

    def fenced(self) -> None:
        """The run is no longer ours."""

    def cancelled(self) -> None:
        """The run is to be cancelled."""

    def cut_off(self) -> None:
        """The database has been silent for the lease, though it may answer others."""


class Recorder:
    """Writes entries in order, at once when the database answers, and a heartbeat every `timings.heartbeat`.

    A run never waits for the database: `record` returns when the entry is on disk. Use it as a context manager;
    entering it records `opening`, leaving it waits up to `timings.patience` for what is undelivered, and leaves the
    rest to `ops sync`. A `leased` recorder has `orders.cut_off` called when no heartbeat got through for
    `timings.lease`. `progress` says, at once, how far the running steps are, by their index: it goes with a heartbeat.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        run_id: UUID,
        attempt: int,
        opening: Entry,
        timings: Timings,
        leased: bool,
        orders: Orders,
        progress: Callable[[], Mapping[int, Progress | None]] = dict,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._run_id = run_id
        self._attempt = attempt
        self._opening = opening
        self._timings = timings
        self._orders = orders
        self._progress = progress
        self._entries: queue.SimpleQueue[Line | threading.Event | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._give_up_at: float | None = None
        self._delivered = True
        self._lease_from = time.monotonic()
        self._sure_until = 0.0
        self._threads = [threading.Thread(target=self._deliver, name="ops-recorder", daemon=True)]
        if leased:
            self._threads.append(threading.Thread(target=self._watch_lease, name="ops-lease", daemon=True))

    def __enter__(self) -> Recorder:
        self.record(self._opening)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._give_up_at = time.monotonic() + self._timings.patience
        self._entries.put(None)
        thread = self._threads[0]
        thread.join(self._timings.patience + 1)  # a statement in flight is not waited for: `ops sync` repeats it
        self._journal.close(delivered=self._delivered and not thread.is_alive())
        if not thread.is_alive():
            self._engine.dispose()

    def record(self, entry: Entry) -> None:
        """Keep an entry: on disk now, in the database soon. A full disk does not stop the run."""
        line = entry.line()
        try:
            self._journal.append(line)
        except OSError as error:
            log.warning("run %s journal: %s; the entry goes to the database only", self._run_id, error)
        self._entries.put(line)

    def make_sure(self) -> None:
        """Return when the run is known to be ours still. Before each step: it may have been stopped for a while.

        A database that is away, or silent for `timings.unsure`, does not delay the run.
        """
        give_up_at = time.monotonic() + self._timings.unsure
        while time.monotonic() > self._sure_until and time.monotonic() < give_up_at:
            time.sleep(0.01)

    def settle(self) -> None:
        """Return when all that was recorded so far is in the database, however long that is away."""
        arrived = threading.Event()
        self._entries.put(arrived)
        while not arrived.wait(1.0) and self._threads[0].is_alive():
            pass

    def _deliver(self) -> None:
        entry: Line | threading.Event | None = self._entries.get()  # the opening: what is looked at must be there
        next_beat = next_check = retry_at = time.monotonic()
        while True:
            now = time.monotonic()
            if entry is not None and now >= retry_at:
                if self._apply(entry):
                    entry = None
                else:
                    retry_at = time.monotonic() + self._timings.retry
            elif now >= next_check:
                beating = now >= next_beat
                if self._check_attempt(beating=beating) and beating:
                    next_beat = now + self._timings.heartbeat
                next_check = now + self._timings.look
            if entry is None:
                try:
                    entry = self._entries.get(timeout=max(0.0, next_check - time.monotonic()))
                except queue.Empty:
                    continue
                if entry is None:
                    return
            elif self._give_up_at is not None and time.monotonic() > self._give_up_at:
                self._delivered = False
                return
            else:
                time.sleep(max(0.0, min(retry_at, next_check) - time.monotonic()))

    def _watch_lease(self) -> None:
        """A thread of its own: the other one may hang in the very silence that is to be noticed."""
        while not self._over.wait(self._timings.lease_margin / 16):
            if time.monotonic() - self._lease_from > self._timings.lease:
                self._orders.cut_off()

    def _check_attempt(self, *, beating: bool) -> bool:
        """Write the heartbeat if it is due, and see whether the run is still ours. False when nobody answered."""
        asked_at = time.monotonic()
        which: dict[str, Any] = {"run_id": self._run_id, "attempt": self._attempt}
        try:
            with self._engine.begin() as db:
                if beating:
                    status = write_heartbeat(db, **which, progress=self._progress())
                else:
                    status = read_attempt_status(db, **which)
        except DBAPIError as error:
            self._miss(error)
            return False
        if status is AttemptStatus.TAKEN:
            self._orders.fenced()
        elif status is AttemptStatus.CANCELLING:
            self._orders.cancelled()
        self._sure_until = asked_at + self._timings.sure
        if beating:
            self._lease_from = asked_at
        return True

    def _apply(self, entry: Line | threading.Event) -> bool:
        if isinstance(entry, threading.Event):
            entry.set()
            return True
        try:
            deliver(self._engine, entry, aside=self._journal.folder)
        except DBAPIError as error:
            log.warning("run %s record waits: %s", self._run_id, first_line(error))
            self._miss(error)
            return False
        return True

    def _miss(self, error: BaseException) -> None:
        """A server that refuses, or says that it is down, is away for the sweeper too; silence may be ours alone."""
        if server_is_down(error):
            self._lease_from = time.monotonic()
            self._sure_until = self._lease_from + self._timings.sure


def deliver(engine: Engine, entry: Line, *, aside: Path) -> None:
    """Apply one entry in a transaction of its own. Raises DBAPIError when the database cannot take any entry now.

    An entry that is refused for what it says is put aside in a file, for it must not keep back the others.
    """
    try:
        with engine.begin() as db:
            apply_line(db, entry)
    except Exception as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
            raise  # away, read-only, not migrated: nothing that is wrong with the entry
        reason = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        log.error("run %s record %s was refused: %s", entry.get("run_id"), entry.get("op"), reason)  # noqa: TRY400  # the trace would hold the values
        set_aside(aside, entry, reason=reason)


def deliver_abandoned(engine: Engine, folder: Path) -> int:
    """Deliver what processes that are gone could not. Returns the number of journals that were emptied."""
    emptied = 0
    for path, entries in abandoned(folder):
        for entry in entries:
            deliver(engine, entry, aside=folder)
        path.unlink(missing_ok=True)
        emptied += 1
    return emptied
