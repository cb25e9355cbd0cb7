"""The recorder, with a database that is played."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, OperationalError

from opsdb.progress import Progress
from opsdb.record import recorder as recorder_module
from opsdb.record.entries import Entry, Event
from opsdb.record.journal import Journal, Line, abandoned
from opsdb.record.recorder import Recorder, deliver
from opsdb.runs.attempts import AttemptStatus
from opsdb.timings import Timings

DOWN = OperationalError("", {}, Exception("connection failed: Connection refused"))
SILENT = OperationalError("", {}, Exception("the server was silent for 15 s"))


class FakeEngine:
    """Gives a transaction, or raises what the database would."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hanging = threading.Event()

    @contextmanager
    def begin(self) -> Iterator[object]:
        while self.hanging.is_set():
            time.sleep(0.01)
        if self.error is not None:
            raise self.error
        yield object()

    def dispose(self) -> None:
        pass


class Orders:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def fenced(self) -> None:
        self.told.append("fenced")

    def cancelled(self) -> None:
        self.told.append("cancelled")

    def cut_off(self) -> None:
        self.told.append("cut off")


class Played:
    """A database in which entries are applied, and looks answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.engine, self.orders, self.folder = FakeEngine(), Orders(), folder
        self.applied: list[Line] = []
        self.looks: list[bool] = []
        self.progress: list[object] = []
        self.status = AttemptStatus.OURS
        self.refused: Callable[[Line], Exception | None] = lambda _entry: None
        monkeypatch.setattr(recorder_module, "apply_line", self._apply)
        monkeypatch.setattr(recorder_module, "read_attempt_status", partial(self._look, beating=False))
        monkeypatch.setattr(recorder_module, "write_heartbeat", partial(self._look, beating=True))
        self.timings = Timings(heartbeat=0.1, look=0.02, retry=0.02, patience=1)

    def recorder(self, *, leased: bool = False, **timings: float) -> Recorder:
        run_id = uuid4()
        self.timings = replace(self.timings, **timings)
        return Recorder(
            engine=cast(Engine, self.engine),
            journal=Journal(self.folder, run_id),
            run_id=run_id,
            attempt=1,
            opening=Event(run_id, message="opening"),
            timings=self.timings,
            leased=leased,
            orders=self.orders,
            progress=lambda: {7: Progress(done_bytes=30)},
        )

    def messages(self) -> list[str]:
        return [entry["message"] for entry in self.applied]

    def _apply(self, _db: object, entry: Line) -> None:
        error = self.refused(entry)
        if error is not None:
            raise error
        self.applied.append(entry)

    def _look(
        self, _db: object, *, run_id: object, attempt: int, beating: bool, progress: object = None
    ) -> AttemptStatus:
        self.looks.append(beating)
        self.progress.append(progress)
        return self.status


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    return Played(monkeypatch, tmp_path)


def note(message: str) -> Entry:
    return Event(uuid4(), message=message)


def eventually(question: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_recorder_delivers_in_order_and_removes_the_journal(played: Played) -> None:
    with played.recorder() as recorder:
        for number in range(20):
            recorder.record(note(str(number)))
    assert played.messages() == ["opening", *map(str, range(20))]
    assert list(played.folder.glob("*.jsonl")) == []


def test_recorder_opens_the_run_before_it_looks_at_it(played: Played) -> None:
    opened_at_first_look: list[int] = []
    played.refused = lambda _entry: opened_at_first_look.append(len(played.looks)) or None  # type: ignore[func-returns-value]
    with played.recorder():
        eventually(lambda: played.looks)
    assert opened_at_first_look[0] == 0


def test_progress_goes_with_heartbeats_and_with_nothing_else(played: Played) -> None:
    with played.recorder():
        eventually(lambda: len(played.looks) > 8)
    told = dict(zip(played.looks, played.progress, strict=True))
    assert told == {True: {7: Progress(done_bytes=30)}, False: None}


@pytest.mark.promise(6)
def test_recorder_waits_for_a_database_that_is_away_and_then_delivers(played: Played) -> None:
    played.engine.error = DOWN
    with played.recorder() as recorder:
        recorder.record(note("during"))
        time.sleep(0.1)
        assert played.applied == []
        played.engine.error = None
    assert played.messages() == ["opening", "during"]


def test_recorder_leaves_what_it_cannot_deliver_in_the_journal(played: Played) -> None:
    played.engine.error = DOWN
    began = time.monotonic()
    with played.recorder(patience=0.2) as recorder:
        recorder.record(note("during"))
    assert time.monotonic() - began < 2
    [(_, entries)] = abandoned(played.folder)
    assert [entry["message"] for entry in entries] == ["opening", "during"]


def test_recorder_does_not_wait_for_a_database_that_hangs(played: Played) -> None:
    played.engine.hanging.set()
    began = time.monotonic()
    with played.recorder(patience=0.1):
        pass
    assert time.monotonic() - began < 3
    assert len(list(abandoned(played.folder))) == 1
    played.engine.hanging.clear()
    eventually(lambda: played.applied)  # its thread must not live on into the next test


@pytest.mark.parametrize("error", [DataError("", {}, Exception("NaN")), KeyError("op"), ValueError("no UUID")])
def test_entry_that_is_refused_is_kept_aside_and_the_others_go_on(played: Played, error: Exception) -> None:
    played.refused = lambda entry: error if entry["message"] == "bad" else None
    with played.recorder() as recorder:
        for message in ("one", "bad", "two"):
            recorder.record(note(message))
    assert played.messages() == ["opening", "one", "two"]
    [kept] = (played.folder / "refused").iterdir()
    assert json.loads(kept.read_text())["entry"]["message"] == "bad"


def test_deliver_keeps_nothing_aside_when_the_database_cannot_take_anything(played: Played) -> None:
    played.engine.error = OperationalError("", {}, Exception("the database system is shutting down"))
    with pytest.raises(OperationalError):
        deliver(cast(Engine, played.engine), note("x").line(), aside=played.folder)
    assert not (played.folder / "refused").exists()


@pytest.mark.parametrize(
    ("status", "order"), [(AttemptStatus.TAKEN, "fenced"), (AttemptStatus.CANCELLING, "cancelled")]
)
def test_recorder_passes_on_what_the_database_orders(played: Played, status: AttemptStatus, order: str) -> None:
    with played.recorder():
        eventually(lambda: played.looks)
        assert played.orders.told == []
        played.status = status
        eventually(lambda: played.orders.told)
    assert set(played.orders.told) == {order}


def test_recorder_looks_more_often_than_it_beats(played: Played) -> None:
    with played.recorder():
        eventually(lambda: len(played.looks) > 8)
    assert played.looks[0]
    assert 1 <= sum(played.looks) < len(played.looks)


def test_lease_ends_when_the_database_is_silent_even_while_a_statement_hangs(played: Played) -> None:
    with played.recorder(leased=True, lost=6, patience=0.1):
        eventually(lambda: played.looks)
        time.sleep(2.5)
        assert played.orders.told == []  # it is renewed by each heartbeat
        played.engine.hanging.set()
        eventually(lambda: "cut off" in played.orders.told)
        played.engine.hanging.clear()


def test_lease_goes_on_while_the_server_says_that_it_is_down(played: Played) -> None:
    with played.recorder(leased=True, lost=6, patience=0.1):
        eventually(lambda: played.looks)
        played.engine.error = DOWN
        time.sleep(2.5)
        assert played.orders.told == []
        played.engine.error = SILENT
        eventually(lambda: "cut off" in played.orders.told)


def test_run_without_a_lease_is_never_cut_off(played: Played) -> None:
    played.engine.error = SILENT
    with played.recorder(patience=0.1):
        time.sleep(0.5)
    assert played.orders.told == []


def test_make_sure_waits_for_an_answer_but_not_for_a_database_that_is_down(played: Played) -> None:
    played.engine.hanging.set()
    with played.recorder() as recorder:
        began = time.monotonic()
        threading.Timer(0.3, played.engine.hanging.clear).start()
        recorder.make_sure()
        assert 0.2 < time.monotonic() - began < played.timings.unsure
        assert played.looks
    played.engine.error = DOWN
    with played.recorder(patience=0.1) as recorder:
        began = time.monotonic()
        recorder.make_sure()
        assert time.monotonic() - began < 4
    played.engine.error = SILENT
    with played.recorder(patience=0.1, unsure=0.3) as recorder:
        began = time.monotonic()
        recorder.make_sure()
        assert 0.2 < time.monotonic() - began < 4


def test_make_sure_asks_again_after_a_pause(played: Played) -> None:
    with played.recorder(patience=0.1, sure=0.1, unsure=0.5) as recorder:
        recorder.make_sure()
        played.engine.error = SILENT
        time.sleep(0.3)
        began = time.monotonic()
        recorder.make_sure()
        assert time.monotonic() - began > 0.3  # an old answer is none


def test_full_disk_does_not_stop_the_run(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_journal: Journal, _entry: Line) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    with played.recorder() as recorder:
        recorder.record(note("x"))
    assert played.messages() == ["opening", "x"]
