"""`ops db prune`: deletes what is old, in Prefect, in the record, and on this host's disk.

In Prefect first: what it does not have any more, no poll and no event of the sync brings back. Each page of runs is a
transaction of its own, and all of it can end at any moment: the next pass looks again at what there is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select
from sqlmodel import col

from deployments.prune import output_files, prefect_runs
from deployments.prune.cancelling import cancelled_by
from deployments.prune.output_files import Output
from deployments.sync.marks import read_watermark
from opsdb.database import GONE, clock_ahead, connect, connect_to_prefect, reachable
from opsdb.errors import OpsError
from opsdb.retention import old_runs
from opsdb.retention.amounts import Amounts, oldest_kept
from opsdb.retention.kept import kept_in_prefect_of, read_kept_in_prefect, read_kept_runs
from opsdb.retention.old_runs import Place
from opsdb.retention.prunes import begin_prune, end_prune, note_deleted_so_far
from opsdb.room_locks import LastingLock, Lock
from opsdb.settings import Settings
from opsdb.tables import Run, Worker

STATEMENT_SECONDS = 300.0
LONGEST_PAUSE = 2.0
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""Older than anything: pages begin here."""
Told = Callable[[Amounts], None]


@dataclass
class Pass:
    """One pass over all that may be old. Use `prune`."""

    settings: Settings
    ops: Engine
    prefect: Engine
    dry: bool
    stop: threading.Event
    told: Told
    lock: LastingLock | None = None
    number: int | None = None
    deleted: Amounts = field(default_factory=Amounts)
    kept: list[UUID] = field(default_factory=list)
    kept_in_prefect: list[UUID] = field(default_factory=list)
    refusals: list[OSError] = field(default_factory=list)
    """Why files could not be deleted."""
    now: datetime = BEGINNING
    recorded_until: datetime = BEGINNING
    """Of what ended before, the sync has recorded all."""

    def run(self) -> None:
        """Look at all of it. Returns early once `stop` is set."""
        with self.ops.begin() as db:
            self.now = db.execute(select(func.clock_timestamp())).scalar_one()
            self.kept = read_kept_runs(db, cutoff=self.cutoff)
            self.kept_in_prefect = read_kept_in_prefect(db, cutoff=self.cutoff)
            self.recorded_until = read_watermark(db)
        for work in (self._prefect, self._tokens, self._record, self._events, self._output, self._refused):
            if not self.stop.is_set():
                work()

    @property
    def cutoff(self) -> datetime:
        """What ended before is old."""
        return self.now - timedelta(days=self.settings.retention_days)

    def _prefect(self) -> None:
        """Runs in Prefect that nobody can resume, whether the record has them or not."""
        cutoff = min(self.cutoff, self.recorded_until)
        place: Place | None = Place(BEGINNING)
        while place is not None and not self.stop.is_set():
            with self._batch():
                with self.prefect.connect() as db:
                    ids, place = prefect_runs.read_page(db, place, cutoff=cutoff)
                with self.ops.connect() as db:
                    kept = kept_in_prefect_of(db, ids, cutoff=self.cutoff, kept=self.kept_in_prefect)
                ids = sorted(set(ids) - kept)
                if ids:
                    with self.prefect.begin() as db:
                        amounts = prefect_runs.delete_runs(db, ids, cutoff=cutoff, dry=self.dry)
                    self._add("Prefect", amounts)
                    self._note()

    def _tokens(self) -> None:
        with self.ops.connect() as db:
            started: datetime | None = db.scalar(select(func.min(col(Worker.started_at))))
        before = min(self.cutoff, started or self.cutoff)
        more = True
        while more and not self.stop.is_set():
            with self._batch():
                with self.prefect.begin() as db:
                    amount = prefect_runs.delete_tokens(db, before=before, dry=self.dry)
                more = amount.count == prefect_runs.TOKENS and not self.dry
                self.deleted.add("Prefect: CSRF tokens", amount)
                self._note()

    def _record(self) -> None:
        """Runs of the record that Prefect does not have any more."""
        place: Place | None = Place(BEGINNING)
        while place is not None and not self.stop.is_set():
            with self._batch():
                with self.ops.connect() as db:
                    ids, place = old_runs.read_page(db, place, cutoff=self.cutoff, kept=self.kept)
                if not self.dry:
                    with self.prefect.connect() as db:
                        ids = sorted(set(ids) - prefect_runs.present(db, ids))
                with self.ops.begin() as db:
                    self._add("record", old_runs.delete_runs(db, ids, cutoff=self.cutoff, kept=self.kept, dry=self.dry))
                    self._note(db)
        with self.ops.begin() as db:
            sessions = old_runs.delete_empty_sessions(db, cutoff=self.cutoff, dry=self.dry)
            self.deleted.add("record: sessions", sessions)
            self.deleted.add("record: passes", old_runs.delete_old_passes(db, now=self.now, dry=self.dry))
            self._note(db)

    def _events(self) -> None:
        with self.ops.connect() as db:
            kept = oldest_kept(old_runs.read_event_days(db), limit_bytes=self.settings.event_bytes)
        place: Place | None = Place(BEGINNING)
        if kept is None:
            return
        while place is not None and not self.stop.is_set():
            with self._batch(), self.ops.begin() as db:
                ids, place = old_runs.read_event_page(db, place, before=kept)
                self.deleted.add("record: run events", old_runs.delete_events(db, ids, before=kept, dry=self.dry))
                self._note(db)

    def _output(self) -> None:
        """What steps wrote, of runs that are over: what is old, and then the oldest until the rest has a place."""
        with self.ops.connect() as db:
            now = self.now - clock_ahead(db)
            unfinished = set(db.scalars(select(col(Run.id)).where(col(Run.finished_at).is_(None))))
        old = output_files.old_output(self.settings, now=now)
        self._delete_files("output of steps", [one for one in old if one.run_id not in unfinished])

    def _refused(self) -> None:
        found = output_files.refused_entries(self.settings)
        self._delete_files("refused entries", [one for one in found if one.written_at < self.cutoff])

    def _delete_files(self, name: str, files: list[Output]) -> None:
        for one in sorted(files, key=lambda one: one.written_at):
            if self.stop.is_set():
                break
            self.renew()
            try:
                if not self.dry:
                    one.delete()
            except OSError as error:
                self.refusals.append(error)
            else:
                self.deleted.add(f"files: {name}", one.amount)
        self._note()

    def _add(self, where: str, amounts: Amounts) -> None:
        for name, amount in amounts.by_name.items():
            self.deleted.add(f"{where}: {name}", amount)

    def _note(self, db: Connection | None = None) -> None:
        """Write down what is gone so far."""
        self.told(self.deleted)
        if self.number is None:
            return
        if db is not None:
            note_deleted_so_far(db, self.number, self.deleted)
        else:
            with self.ops.begin() as own:
                note_deleted_so_far(own, self.number, self.deleted)

    def renew(self) -> None:
        """Keep the lock. Raises LockedError where another pass has it."""
        if self.lock is not None:
            self.lock.renew()

    @contextmanager
    def _batch(self) -> Iterator[None]:
        """Leave the servers to others, after each batch, for as long as it took. The batch has the lock."""
        self.renew()
        began = time.monotonic()
        yield
        if not self.dry:
            self.stop.wait(min(LONGEST_PAUSE, time.monotonic() - began))


def prune(
    settings: Settings,
    *,
    by: Literal["room", "person"],
    dry: bool = False,
    stop: threading.Event | None = None,
    told: Told = lambda _deleted: None,
) -> Amounts:
    """Delete what is old and nothing builds on, or with `dry` only say how much that is. Returns what went.

    Ends early when `stop` is set, and undoes what it is in the middle of. `told` hears now and then of all that went so
    far. Raises DatabaseUnavailableError; LockedError while another pass runs; and OpsError for files that cannot be
    deleted, after all else is done.
    """
    with ExitStack() as stack:
        ops = connect(settings, application="prune", statement_seconds=STATEMENT_SECONDS)
        stack.callback(ops.dispose)
        prefect = connect_to_prefect(settings, application="prune", statement_seconds=STATEMENT_SECONDS)
        stack.callback(prefect.dispose)
        stack.enter_context(reachable())
        one = Pass(settings=settings, ops=ops, prefect=prefect, dry=dry, stop=stop or threading.Event(), told=told)
        stack.enter_context(cancelled_by(one.stop, ops, prefect))
        if not dry:
            one.lock = LastingLock(stack.enter_context(ops.connect()), Lock.PRUNE)
        try:
            _run(one, by=by)
        except GONE:
            if not one.stop.is_set():
                raise
        return one.deleted


def _run(one: Pass, *, by: Literal["room", "person"]) -> None:
    """Run a pass with its lock, and record its beginning and its end."""
    if not one.dry:
        one.renew()
        with one.ops.begin() as db:
            one.number = begin_prune(db, by=by)
    one.run()
    if one.refusals:
        first = one.refusals[0]
        others = f", and {len(one.refusals) - 1} more" if len(one.refusals) > 1 else ""
        raise OpsError(f"{first.filename or 'a file'}{others} cannot be deleted: {first.strerror}") from first
    if one.number is not None and not one.stop.is_set():
        with one.ops.begin() as db:
            end_prune(db, one.number)
