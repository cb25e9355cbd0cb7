"""The journal of a run process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from opsdb.record.entries import Event, RunClosed
from opsdb.record.journal import Journal, abandoned, age_seconds, last_words, set_aside, stamp

SCRIPT = """
import os, sys, time
from pathlib import Path
from uuid import UUID
from opsdb.record.journal import Journal
journal = Journal(Path(sys.argv[1]), UUID(int=1))
journal.append({"op": "event", "number": 1})
print("written", flush=True)
time.sleep(60)
"""


@pytest.mark.promise(6)
def test_journal_of_a_living_process_is_left_alone_and_that_of_a_killed_one_is_read(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    assert list(abandoned(tmp_path)) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    [(path, entries)] = abandoned(tmp_path)
    assert entries == [{"op": "event", "number": 1}]
    assert path.name.startswith("00000000-0000-0000-0000-000000000001.")


def test_torn_line_is_left_out_and_those_around_it_are_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path, uuid4())
    journal.append({"number": 1})
    with journal.path.open("ab") as file:
        file.write(b'{"number": 2, "half')
        file.write(b"\n12\n")  # what is left of a number is JSON too
    journal.append({"number": 3})
    journal.close(delivered=False)
    [(_, entries)] = abandoned(tmp_path)
    assert entries == [{"number": 1}, {"number": 3}]


def test_entry_after_one_that_a_full_disk_tore_stands_on_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, uuid4())
    journal.append({"number": 1})
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:5]))
        with pytest.raises(OSError, match="in part"):
            journal.append({"number": 2})
    journal.append({"number": 3})
    journal.close(delivered=False)
    [(_, entries)] = abandoned(tmp_path)
    assert entries == [{"number": 1}, {"number": 3}]


def test_delivered_journal_is_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, uuid4())
    journal.append({"number": 1})
    journal.close(delivered=True)
    assert list(tmp_path.iterdir()) == []


def test_last_words_are_those_of_the_attempt(tmp_path: Path) -> None:
    run_id = uuid4()
    journal = Journal(tmp_path, run_id)
    journal.append(Event(run_id, message="x").line())
    journal.append(RunClosed.of(run_id, attempt=2, result=7).line())
    assert last_words(tmp_path, run_id, attempt=1) is None
    assert last_words(tmp_path, uuid4(), attempt=2) is None
    found = last_words(tmp_path, run_id, attempt=2)  # also while its process lives
    assert found is not None
    assert (found["outcome"], found["result"]) == ("succeeded", 7)
    journal.close(delivered=False)


def test_interrupted_run_has_no_outcome_of_its_own() -> None:
    error = {"type": "Terminated", "message": "told to stop", "stack": None}
    assert RunClosed.of(uuid4(), attempt=1, error=error, interrupted=True).outcome is None
    assert RunClosed.of(uuid4(), attempt=1, error=error).outcome == "failed"


def test_refused_entries_are_kept_with_the_reason(tmp_path: Path) -> None:
    run_id = uuid4()
    path = set_aside(tmp_path, Event(run_id, message="one").line(), reason="bad")
    assert set_aside(tmp_path, Event(run_id, message="two").line(), reason="worse") == path
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["refused"], line["entry"]["message"]) for line in kept] == [("bad", "one"), ("worse", "two")]
    assert path.stat().st_mode & 0o077 == 0
    assert list(abandoned(tmp_path)) == []  # nobody delivers them again


def test_refused_entry_names_no_file_but_its_runs(tmp_path: Path) -> None:
    path = set_aside(tmp_path / "journal", {"op": "event", "run_id": "../../away"}, reason="bad")
    assert path == tmp_path / "journal" / "refused" / "unknown.jsonl"


def test_age_does_not_follow_the_clock_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    made = stamp()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 600)
    assert age_seconds(made) < 5
    assert age_seconds({**made, "uptime": made["uptime"] + 100}) == 0
    assert age_seconds({**made, "boot": "the one before"}) > 590  # nothing else is left to go by
