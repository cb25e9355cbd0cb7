"""The supervisor, over programs of a few lines."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from deployments.room import child, runner, supervisor
from deployments.room.report import (
    RoomReport,
    current_report,
    only_supervisor,
    read_report,
    room_path,
)
from deployments.room.runner import Part
from deployments.room.supervisor import Supervisor
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.processes.identity import Identity, identify
from tests.support.waiting import wait_for

LIMIT_SECONDS = 20.0
DECIDED_BY = {"OPS_TEMPLATES": "/srv/templates"}


def part(
    name: str, script: str, *, once: bool = False, ready: Callable[[datetime], bool] | None = None, **more: object
) -> Part:
    """A shell script as a part."""
    default = None if once else (lambda _started: True)
    return Part(name, ["/bin/sh", "-c", script], dict(os.environ), Path("/"), ready or default, **more)  # type: ignore[arg-type]


def supervise(home: Path, parts: list[Part], until: Callable[[RoomReport], bool]) -> RoomReport:
    """Run the parts until `until` says so; returns the report of that moment."""
    seen: list[RoomReport] = []
    limit = time.monotonic() + LIMIT_SECONDS

    def turn(report: RoomReport) -> None:
        assert time.monotonic() < limit, report
        if not seen and until(report):
            seen.append(report)
            os.kill(os.getpid(), signal.SIGTERM)

    home.mkdir(parents=True, exist_ok=True)
    Supervisor(parts, home=home, ui="http://127.0.0.1:1", decided_by=DECIDED_BY).run(turn)
    return seen[0]


def by_name(report: RoomReport) -> dict[str, str]:
    return {each.name: each.state for each in report.parts}


def test_report_has_the_settings_that_decide_which_runbooks_there_are(tmp_path: Path) -> None:
    report = supervise(tmp_path, [part("one", "sleep 60")], lambda seen: seen.state == "ready")
    assert report.decided_by == DECIDED_BY


def test_parts_start_after_those_they_need_and_stop_in_reverse(tmp_path: Path) -> None:
    log = tmp_path / "order"
    trap = f"trap 'echo stop-$0 >> {log}; exit 0' TERM; echo start-$0 >> {log}; while :; do sleep 0.05; done"

    def named(name: str, *after: str) -> Part:
        each = part(
            name, trap, ready=lambda _at: f"start-{name}" in log.read_text() if log.exists() else False, after=after
        )
        return Part(**{**each.__dict__, "command": [*each.command, name]})

    once = part("once", f"echo once >> {log}", once=True, after=("first",))
    report = supervise(
        tmp_path / "home",
        [named("first"), once, named("second", "once")],
        lambda report: report.state == "ready",
    )
    assert by_name(report) == {"first": "ready", "once": "done", "second": "ready"}
    assert log.read_text().split() == ["start-first", "once", "start-second", "stop-second", "stop-first"]


def test_part_that_dies_is_started_again_under_a_new_pid(tmp_path: Path) -> None:
    killed: list[int] = []

    def until(report: RoomReport) -> bool:
        one = report.parts[0]
        if report.state == "ready" and not killed and one.pid:
            killed.append(one.pid)
            os.kill(one.pid, signal.SIGKILL)
        return bool(killed) and one.state == "ready" and one.restarts == 1

    report = supervise(tmp_path, [part("one", "exec sleep 60")], until)
    assert report.parts[0].pid not in (None, killed[0])
    assert report.parts[0].last_exit == -signal.SIGKILL


def test_warnings_of_a_part_that_runs_once_are_its_note(tmp_path: Path) -> None:
    log = tmp_path / "log" / "deploy.log"
    log.parent.mkdir()
    log.write_text("warning: of the start before\n")
    script = "echo fine; echo 'warning: one schedule' >&2; echo 'no warning: none'; echo 'warning: another'"
    report = supervise(tmp_path, [part("deploy", script, once=True)], lambda report: report.state == "ready")
    assert [each.note for each in report.parts] == ["one schedule; another"]


def test_part_that_never_gets_ready_ends_the_start_with_its_last_words(tmp_path: Path) -> None:
    parts = [part("fine", "exec sleep 60"), part("broken", "echo no such thing; exit 7", once=True, after=("fine",))]
    pids: set[int] = set()
    with pytest.raises(RoomUnreachableError, match=r"broken ended 3 times with exit code 7.*no such thing"):
        supervise(tmp_path, parts, lambda report: pids.update(p.pid for p in report.parts if p.pid) or False)  # type: ignore[func-returns-value]
    assert pids
    assert not any(identify(pid) for pid in pids)
    report = read_report(tmp_path)
    assert report is not None
    assert report.state == "failed"
    assert "broken ended" in (report.error or "")


def test_room_goes_on_when_its_report_or_a_log_cannot_be_written(tmp_path: Path) -> None:
    """As on a disk that filled up: neither a new file nor a longer one."""
    blocked = tmp_path / f".room.json.{os.getpid()}"
    killed: list[int | None] = []

    def until(report: RoomReport) -> bool:
        one = report.parts[0]
        if report.state == "ready" and not killed:
            blocked.mkdir()  # root heeds no rights, but cannot write to a folder
            (tmp_path / "log" / "one.log").rename(tmp_path / "log" / "kept")
            (tmp_path / "log" / "one.log").mkdir()
            killed.append(one.pid)
            os.kill(one.pid or 0, signal.SIGKILL)
        if one.restarts == 2 and blocked.exists():
            assert "cannot be started: " in one.note
            (tmp_path / "log" / "one.log").rmdir()
            blocked.rmdir()
        return one.restarts >= 2 and one.state == "ready"

    report = supervise(tmp_path, [part("one", "exec sleep 60")], until)
    assert report.parts[0].pid not in (None, *killed)


def test_part_that_ignores_its_stop_signal_is_killed_with_its_group(tmp_path: Path) -> None:
    stubborn = part("stubborn", "trap '' TERM; sleep 61 & sleep 62", grace_seconds=0.3)
    begin = time.monotonic()
    report = supervise(tmp_path, [stubborn], lambda report: report.state == "ready")
    assert time.monotonic() - begin < 5
    leader = report.parts[0].pid
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    groups = [line.split()[0] for line in listed.splitlines() if line.split()[1][0] != "Z"]
    assert str(leader) not in groups


def test_report_that_says_ready_of_a_dead_part_is_corrected(tmp_path: Path) -> None:
    def until(report: RoomReport) -> bool:
        if report.state != "ready" or not report.parts[0].pid:
            return False
        os.kill(report.parts[0].pid, signal.SIGKILL)
        current = wait_for(
            lambda: (now := current_report(tmp_path)) and by_name(now) == {"one": "dead"} and now,
            seconds=30,
            what="it is told to be dead",
        )
        assert current
        assert not current.all_ready
        return True

    supervise(tmp_path, [part("one", "exec sleep 60")], until)
    final = read_report(tmp_path)
    assert final is not None
    assert final.state == "stopped"


def test_report_of_another_boot_or_a_recycled_pid_is_no_running_room(tmp_path: Path) -> None:
    supervise(tmp_path, [part("one", "exec sleep 60")], lambda report: report.state == "ready")
    own = identify(os.getpid())
    assert own is not None
    value = json.loads(room_path(tmp_path).read_text())
    room_path(tmp_path).write_text(json.dumps(value))
    assert current_report(tmp_path) is not None  # the test itself was the supervisor
    for wrong in ({"boot": "another"}, {"start_ticks": own.start_ticks + 1}):
        room_path(tmp_path).write_text(json.dumps(value | wrong))
        assert current_report(tmp_path) is None
    for broken in ("", "{", "[]", "{}"):
        room_path(tmp_path).write_text(broken)
        assert current_report(tmp_path) is None


def test_signal_to_a_recycled_pid_is_not_sent() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        real = identify(process.pid)
        assert real is not None
        assert not child.send(Identity(real.pid, real.start_ticks + 1), signal.SIGKILL)
        assert process.poll() is None
        assert child.send(real, signal.SIGKILL)
        assert process.wait(5) == -signal.SIGKILL
    assert not child.send(real, signal.SIGKILL)


def test_second_supervisor_is_refused(tmp_path: Path) -> None:
    with only_supervisor(tmp_path), pytest.raises(UsageError, match="runs already"), only_supervisor(tmp_path):
        pass
    with only_supervisor(tmp_path):
        pass


def test_command_that_keeps_a_room_from_starting_is_named_and_may_be_waited_for(tmp_path: Path) -> None:
    words = rf"`ops db backup` \(pid {os.getpid()}\) works in .*: repeat this when that is over"
    working = only_supervisor(tmp_path, command="ops db backup")
    with working, pytest.raises(RoomUnreachableError, match=words), only_supervisor(tmp_path):
        pass
    with only_supervisor(tmp_path), pytest.raises(UsageError, match="runs already"), only_supervisor(tmp_path):
        pass


PARENT = """
import os, signal, sys, time
from pathlib import Path
from deployments.room import child, supervisor
process = child.spawn(sys.argv[2:], env=os.environ, cwd=Path("/"), log=Path(sys.argv[1]), orphan_signal=signal.SIGTERM)
print(process.pid, flush=True)
time.sleep(60)
"""


def test_child_dies_with_a_killed_parent_even_when_started_with_signals_ignored(tmp_path: Path) -> None:
    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), "sleep", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=ignore) as parent:  # noqa: PLW1509  # the test has one thread
        assert parent.stdout is not None
        started = identify(int(parent.stdout.readline()))
        assert started is not None
        status = Path(f"/proc/{started.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        # but for glibc's own 32 and 33, which make has its children ignore and no program can undo
        assert int(fields["SigIgn"], 16) & ~(0b11 << 31) == int(fields["SigBlk"], 16) == 0
        assert os.getsid(started.pid) == started.pid
        parent.kill()
    assert child.wait_gone(started, 5)


def test_part_that_writes_much_has_a_log_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LOG_BYTES", 100_000)
    monkeypatch.setattr(runner, "CHECK_SECONDS", 0.0)
    log = tmp_path / "log" / "one.log"
    aside = log.with_name("one.log.1")
    script = 'n=0; while :; do n=$((n + 1)); echo "line $n of a part that writes all the time"; done'
    seen: list[int] = []

    def enough(_report: RoomReport) -> bool:
        if aside.exists():
            seen.append(aside.stat().st_ino)
        return len(set(seen)) >= 2

    supervise(tmp_path, [part("one", script)], enough)
    for file in (aside, log):
        lines = file.read_text().splitlines()[:-1]  # it was killed within its last one, perhaps
        assert all(re.fullmatch(r"line \d+ of a part that writes all the time", line) for line in lines)
        numbers = [int(line.split()[1]) for line in lines]
        assert all(after == before + 1 for before, after in pairwise(numbers))


def test_open_socket_reaches_the_part_that_is_given_it_and_no_other(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.fileno()
        inode = os.fstat(number).st_ino
        show = "ls -l /proc/$$/fd; exec sleep 60"

        def shown(name: str) -> Callable[[datetime], bool]:
            return lambda _started: "total" in (tmp_path / "log" / f"{name}.log").read_text()

        parts = [
            part("given", show, ready=shown("given"), pass_fds=(number,)),
            part("other", show, ready=shown("other"), after=("given",)),
        ]
        supervise(tmp_path, parts, lambda report: report.state == "ready")
    logs = {name: (tmp_path / "log" / f"{name}.log").read_text() for name in ("given", "other")}
    assert f"{number} -> socket:[{inode}]" in logs["given"]
    assert "socket:" not in logs["other"]


def test_no_more_parts_load_at_once_than_there_are_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STARTS_AT_ONCE", 2)
    started: list[tuple[str, ...]] = []

    def until(report: RoomReport) -> bool:
        started.append(tuple(each.name for each in report.parts if each.pid))
        return report.state == "ready"

    slow = [
        part(
            name,
            "exec sleep 60",
            ready=lambda _started: started.count(("a", "b")) > 3,
        )
        for name in "abc"
    ]
    supervise(tmp_path, slow, until)
    assert [one for one in dict.fromkeys(started) if one] == [("a", "b"), ("a", "b", "c")]
