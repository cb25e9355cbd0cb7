"""When a pass of `ops db prune` begins, what ends it early, and what it does beside another one."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from errno import ENOENT
from pathlib import Path
from unittest.mock import ANY
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from deployments.prune.output_files import Output, count_old_output
from deployments.prune.prune import prune
from opsdb.database import connect
from opsdb.errors import OpsError
from opsdb.record.journal import journal_dir
from opsdb.retention.amounts import Amounts
from opsdb.retention.old_runs import PAGE
from opsdb.retention.prunes import begin_prune, end_prune, is_due, is_switched_on, read_last
from opsdb.room_locks import LockedError
from opsdb.settings import Settings
from tests.integration.deployments.prune.left import ids, in_prefect, recorded, write_output
from tests.support.old_runs import make_old_runs
from tests.support.waiting import wait_for

LONG_AGO = 100


def test_pass_that_is_killed_after_a_page_is_finished_by_the_next(room: Settings) -> None:
    make_old_runs(room, days=LONG_AGO, count=2 * PAGE + 50)

    class KilledError(Exception):
        pass

    def kill(deleted: Amounts) -> None:
        if deleted.by_name.get("record: runs") is not None:
            raise KilledError

    with pytest.raises(KilledError):
        prune(room, by="person", told=kill)
    left = len(recorded(room))
    assert in_prefect(room) == set()
    assert left == 2 * PAGE + 50  # what is not written down is not gone
    with connect(room, application="test").connect() as db:
        assert (last := read_last(db)) is not None
        assert last.deleted == {}  # the room's making: the one that was killed has no end

    deleted = prune(room, by="person").document()

    assert recorded(room) == set()
    assert deleted["record: runs"]["count"] == left
    assert "Prefect: runs" not in deleted


@pytest.mark.gate
def test_pass_that_is_stopped_leaves_the_rest_and_is_not_over(room: Settings) -> None:
    make_old_runs(room, days=LONG_AGO, count=2 * PAGE)
    stop = threading.Event()

    prune(room, by="person", stop=stop, told=lambda _deleted: stop.set())

    assert len(in_prefect(room)) == PAGE
    assert len(recorded(room)) == 2 * PAGE
    assert ids(room.ops_url, "SELECT finished_at FROM ops.prunes WHERE started_by = 'person'") == {None}


def test_room_prunes_by_itself_when_it_was_made_so_or_is_told_to(room: Settings) -> None:
    told = {choice: room.model_copy(update={"prune": choice}) for choice in (True, False)}
    with connect(room, application="test").begin() as db:
        assert is_switched_on(db, room)
        assert not is_switched_on(db, told[False])
        assert not is_due(db, room)  # it was made today
        db.execute(text("UPDATE ops.prunes SET finished_at = finished_at - interval '25 hours'"))
        assert is_due(db, room)
        number = begin_prune(db, by="person")
        end_prune(db, number)
        assert is_due(db, room)  # that one may have been on another host, whose files it deleted
        number = begin_prune(db, by="room")
        assert not is_due(db, room)
        db.execute(text("UPDATE ops.prunes SET started_at = started_at - interval '61 minutes'"))
        assert is_due(db, room)  # it did not come to its end
        end_prune(db, number)
        assert not is_due(db, room)
        db.execute(text("UPDATE ops.prunes SET finished_at = finished_at - interval '25 hours'"))
        assert not is_due(db, told[False])
        db.execute(text("DELETE FROM ops.prunes"))  # a room of an older version
        assert not is_switched_on(db, room)
        assert not is_due(db, room)
        assert is_due(db, told[True])


def test_file_that_cannot_be_deleted_keeps_no_other_and_the_pass_does_not_come_to_its_end(
    room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, others = write_output(room, uuid4(), days=50), [write_output(room, uuid4(), days=40) for _ in range(2)]
    deleting = Output.delete

    def delete(one: Output) -> None:
        if one.path.name == refused:
            raise PermissionError(13, "Permission denied", str(one.path))
        deleting(one)

    monkeypatch.setattr(Output, "delete", delete)
    with pytest.raises(OpsError, match=f"{refused} cannot be deleted: Permission denied"):
        prune(room, by="room")

    assert {path.name for path in room.logs.iterdir()} == {refused}
    with connect(room, application="test").begin() as db:
        db.execute(text("UPDATE ops.prunes SET finished_at = finished_at - interval '25 hours'"))
        assert db.execute(text("SELECT finished_at, deleted FROM ops.prunes WHERE started_by = 'room'")).all() == [
            (None, {"files: output of steps": ANY})
        ]
        assert not is_due(db, room)  # else the sync would begin it again at once, for good
    assert others


@pytest.mark.gate
def test_output_that_somebody_else_deletes_meanwhile_is_no_error(
    room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = write_output(room, uuid4(), days=50)
    (refused := journal_dir(room) / "refused").mkdir(parents=True)
    (refused / f"{uuid4()}.jsonl").touch()
    looking = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        if path.name == gone or path.parent == refused:
            raise FileNotFoundError(ENOENT, "No such file or directory", str(path))
        return looking(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    prune(room, by="person")
    assert count_old_output(room, now=datetime.now(UTC)) == 0


def test_second_pass_at_once_is_refused_with_who_prunes_and_the_first_goes_on(room: Settings) -> None:
    make_old_runs(room, days=LONG_AGO, count=2 * PAGE)
    refusals: list[str] = []

    def another(_deleted: Amounts) -> None:
        with pytest.raises(LockedError) as refused:
            prune(room, by="person")
        refusals.append(str(refused.value))

    prune(room, by="room", told=another)

    assert recorded(room) == set() == in_prefect(room)
    assert refusals
    assert all("(application 'ops prune', pid " in words for words in refusals)
    assert ids(room.ops_url, "SELECT started_by FROM ops.prunes") == {"installation", "room"}


def test_pass_that_waits_for_a_statement_stops_when_told_to(room: Settings) -> None:
    stop = threading.Event()
    deleted: list[Amounts] = []
    with psycopg.connect(room.ops_url) as holder:
        holder.execute("LOCK TABLE ops.run_events IN ACCESS EXCLUSIVE MODE")
        one = threading.Thread(target=lambda: deleted.append(prune(room, by="room", stop=stop)))
        one.start()
        waits = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ops prune' AND wait_event_type = 'Lock'"
        wait_for(lambda: ids(room.ops_url, waits), seconds=20, what="the pass waits")
        stop.set()
        one.join(20)
        assert deleted
    assert ids(room.ops_url, "SELECT finished_at FROM ops.prunes WHERE started_by = 'room'") == {None}


@pytest.mark.gate
def test_rows_of_passes_stay_for_a_year_and_that_of_the_installation_for_good(room: Settings) -> None:
    with psycopg.connect(room.ops_url) as db:
        for by, days in (("room", 366), ("person", 364), ("installation", 900)):
            made = "INSERT INTO ops.prunes (started_by, started_at) VALUES (%s, now() - %s * interval '1 day')"
            db.execute(made, [by, days])
    deleted = prune(room, by="person").document()
    assert deleted["record: passes"]["count"] == 1
    assert ids(room.ops_url, "SELECT started_by FROM ops.prunes") == {"installation", "person"}
