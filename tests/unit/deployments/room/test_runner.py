"""One part of a room: how long its start may take, and what a part does that is started early."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deployments.room.database_work import DatabaseWork
from deployments.room.report import RoomReport
from deployments.room.runner import Part, restart_delay
from deployments.room.supervisor import Supervisor
from opsdb.errors import RoomUnreachableError
from tests.unit.deployments.room.test_supervisor import LIMIT_SECONDS, part, supervise

HANGS = "echo half done; exec sleep 60"
SPINS = "echo half done; while :; do :; done"


def fails(tmp_path: Path, script: str, turn: Callable[[RoomReport], None] = lambda _report: None, **more: Any) -> str:
    """What ends the start of a room whose one part never gets ready."""
    one = part("slow", script, ready=lambda _started: False, awaited="it answers", **more)
    limit = time.monotonic() + LIMIT_SECONDS

    def look(report: RoomReport) -> None:
        assert time.monotonic() < limit, report
        turn(report)

    tmp_path.mkdir(exist_ok=True)
    with pytest.raises(RoomUnreachableError) as ended:
        Supervisor([one], home=tmp_path, ui="http://127.0.0.1:1").run(look)
    return str(ended.value)


def test_part_that_does_nothing_at_its_first_start_ends_it_with_what_is_missing(tmp_path: Path) -> None:
    said = fails(tmp_path, HANGS, silent_seconds=0.5)
    assert re.search(r"slow was not ready after \d+ s and did nothing for 0 s\. Ready means: it answers\. ", said)
    assert "ends with: half done. Hint: read that log" in said


def test_part_that_was_stopped_is_named_with_what_lets_it_go_on(tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(report: RoomReport) -> None:
        if report.parts[0].pid and not pids:
            pids.append(report.parts[0].pid)
            os.kill(pids[0], signal.SIGSTOP)

    said = fails(tmp_path, SPINS, stop, silent_seconds=1.0)
    assert f"somebody stopped its process (`kill -CONT {pids[-1]}` resumes it)" in said


def test_part_that_waits_for_a_lock_names_who_holds_it(tmp_path: Path) -> None:
    held = DatabaseWork(executing="PostgreSQL executes", held="role 'me' holds a lock")
    assert "did nothing for 0 s; role 'me' holds a lock. " in fails(
        tmp_path, HANGS, silent_seconds=0.5, elsewhere=lambda: held
    )


def test_part_that_uses_cpu_for_ever_ends_the_start(tmp_path: Path) -> None:
    said = fails(tmp_path, SPINS, silent_seconds=60, cpu_seconds=0.2)
    assert re.search(r"slow is not ready after \d+ s, though it used \d+ s of CPU \(ready means: it answers\)", said)


@pytest.mark.parametrize("by", ["itself", "its child", "the database"])
def test_slow_start_goes_on_for_as_long_as_something_works_at_it(tmp_path: Path, by: str) -> None:
    silent_seconds, longer = 0.3, 6
    child = "(echo half done; while kill -0 $$; do :; done) & exec sleep 60"  # it ends with its parent
    script = {"itself": SPINS, "its child": child, "the database": HANGS}[by]
    work = DatabaseWork(executing="PostgreSQL executes for 7 s in ops: CREATE INDEX" if by == "the database" else None)
    begun = time.monotonic()
    seen: set[str] = set()

    def ready(_started: datetime) -> bool:
        return time.monotonic() - begun > longer * silent_seconds

    def until(report: RoomReport) -> bool:
        seen.add(report.parts[0].doing)
        return report.state == "ready"

    one = part("slow", script, ready=ready, silent_seconds=silent_seconds, elsewhere=lambda: work)
    report = supervise(tmp_path, [one], until)
    assert report.parts[0].state == "ready"
    assert (work.executing or "half done") in seen


EARLY = "import os; from opsdb.start_signal import await_start; print('loaded', flush=True); await_start(); "


def early(name: str, code: str, *after: str, **more: Any) -> Part:
    """A Python program that loads before its time, waits for the word, and does something then."""
    command = [sys.executable, "-c", EARLY + code]
    return Part(name, command, dict(os.environ), Path.cwd(), None, after=after, early=True, **more)


def test_early_part_loads_at_once_and_works_only_after_those_it_needs(tmp_path: Path) -> None:
    log, loaded = tmp_path / "order", tmp_path / "log" / "late.log"
    write = f"open({str(log)!r}, 'a').write(str(os.environ.get('OPS_START_FD')) + ' late\\n')"
    first = part(
        "first",
        f"while ! grep -q loaded {loaded}; do sleep 0.05; done; echo first >> {log}; exec sleep 60",
        ready=lambda _started: log.exists(),
    )
    report = supervise(tmp_path, [first, early("late", write, "first")], lambda report: report.state == "ready")
    assert [(each.state, each.restarts) for each in report.parts] == [("ready", 0), ("done", 0)]
    assert log.read_text() == "first\nNone late\n"


def test_early_part_ends_with_its_supervisor(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    env = {**os.environ, "OPS_START_FD": str(theirs.fileno())}
    command = [sys.executable, "-c", EARLY + "print('went on')"]
    with theirs, subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        assert ours.recv(1)
        ours.close()
        assert process.wait(30) == 1


def test_early_part_that_dies_while_it_waits_is_started_again(tmp_path: Path) -> None:
    killed: list[int] = []

    def gate(_started: datetime) -> bool:
        return bool(killed)

    def until(report: RoomReport) -> bool:
        late = report.parts[1]
        if not killed and late.pid:
            killed.append(late.pid)
            os.kill(late.pid, signal.SIGKILL)
        return report.state == "ready"

    report = supervise(tmp_path, [part("first", HANGS, ready=gate), early("late", "pass", "first")], until)
    assert [(each.state, each.restarts) for each in report.parts] == [("ready", 0), ("done", 1)]


@pytest.mark.parametrize(
    ("previous", "healthy", "expected"),
    [
        (None, None, 0.5),
        (0.5, None, 1.0),
        (1.0, 3.0, 2.0),
        (16.0, 59.9, 30.0),
        (30.0, None, 30.0),
        (30.0, 60.0, 0.5),
    ],
)
def test_restart_delay_doubles_up_to_a_limit_and_starts_over_after_health(
    previous: float | None, healthy: float | None, expected: float
) -> None:
    assert restart_delay(previous=previous, healthy_seconds=healthy) == expected
