"""A server that hangs is found and started again; one that starts, or has an excuse, is left alone."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.room.pulse import Pulse
from deployments.room.report import RoomReport
from deployments.room.runner import Part
from tests.support.waiting import wait_for
from tests.unit.deployments.room.test_supervisor import supervise

SECONDS = 0.6
# answers on the socket whose descriptor it is given
SERVER = """
import socket, sys
server = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    connection.close()
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that takes connections, as the supervisor holds Prefect's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def pulse(listener: socket.socket, **more: object) -> Pulse:
    return Pulse(listener.getsockname(), "/api/health", seconds=SECONDS, **more)  # type: ignore[arg-type]


def answer(listener: socket.socket) -> bytes:
    """Answer the oldest request that waits."""
    with listener.accept()[0] as connection:
        request = connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    return request


def looked_at(one: Pulse, started: datetime, *, seconds: float = 3 * SECONDS) -> str | None:
    """The first fault within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := one.fault(started):
            return found
        time.sleep(0.02)
    return None


def test_server_that_stops_is_killed_and_started_again_with_a_note(tmp_path: Path, listener: socket.socket) -> None:
    one = pulse(listener)
    server = Part(
        "server",
        [sys.executable, "-c", SERVER, str(listener.fileno())],
        dict(os.environ),
        Path("/"),
        one.prompt,
        fault=one.fault,
        pass_fds=(listener.fileno(),),
    )
    stopped: list[int] = []

    def until(report: RoomReport) -> bool:
        part = report.parts[0]
        if report.state == "ready" and not stopped and part.pid:
            stopped.append(part.pid)
            os.kill(part.pid, signal.SIGSTOP)
        return bool(stopped) and part.state == "ready" and part.restarts == 1

    part = supervise(tmp_path, [server], until).parts[0]
    assert part.pid not in (None, stopped[0])
    assert part.last_exit == -signal.SIGKILL
    assert part.note.startswith("did not answer for 0.6 s: killed and started again at ")


def test_server_is_asked_without_a_password(listener: socket.socket) -> None:
    one = pulse(listener)
    assert not one.prompt(datetime.now(UTC))
    assert b"authorization" not in answer(listener).lower()


def test_server_that_has_not_answered_yet_is_never_at_fault(listener: socket.socket) -> None:
    one, started = pulse(listener), datetime.now(UTC)
    assert looked_at(one, started) is None
    assert not one.prompt(started)
    answer(listener)
    wait_for(lambda: one.prompt(started), seconds=5, what="the late answer counts")
    assert looked_at(one, started) == "did not answer for 0.6 s"
    assert looked_at(one, datetime.now(UTC)) is None  # the next process is starting


def test_any_of_three_answers_counts(listener: socket.socket) -> None:
    one, started = pulse(listener), datetime.now(UTC)
    one.prompt(started)
    answer(listener)
    assert looked_at(one, started, seconds=0.8 * SECONDS) is None
    answer(listener)
    assert looked_at(one, started, seconds=0.8 * SECONDS) is None


def test_server_with_an_excuse_gets_the_whole_time_again(listener: socket.socket) -> None:
    excuses = [False, True]
    one, started = pulse(listener, excused=excuses.pop), datetime.now(UTC)
    one.prompt(started)
    answer(listener)
    wait_for(lambda: one.prompt(started), seconds=5, what="it has answered")
    begin = time.monotonic()
    assert looked_at(one, started, seconds=10) == "did not answer for 0.6 s"
    assert excuses == []
    assert time.monotonic() - begin > 2 * SECONDS


def test_server_is_not_prompt_while_a_request_waits(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.room.pulse.PROMPT_SECONDS", 0.1)
    one, started = pulse(listener), datetime.now(UTC)
    one.prompt(started)
    answer(listener)
    wait_for(lambda: one.prompt(started), seconds=5, what="it has answered")
    wait_for(lambda: not one.prompt(started), seconds=5, what="the next request waits")
    wait_for(lambda: answer(listener) and one.prompt(started), seconds=5, what="it answers again")


def test_clock_that_jumped_alone_is_no_fault(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    # a machine that slept: server and supervisor go on at the same moment
    one, started = pulse(listener), datetime.now(UTC)
    one.prompt(started)
    answer(listener)
    wait_for(lambda: one.prompt(started), seconds=5, what="it has answered")
    wait_for(lambda: one.prompt(started) and one._asked, seconds=5, what="it is asked again")
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600)
    assert one.fault(started) is None
