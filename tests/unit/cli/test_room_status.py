"""`ops status`: never "ready" beside something that is not."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from cli import room as command
from deployments.room import readiness
from deployments.room.report import SILENT_SECONDS, PartReport, PartState, RoomReport, RoomState, write_report
from opsdb.processes.identity import boot_id, identify

ALL: tuple[PartState, ...] = ("waiting", "starting", "ready", "done", "not ready", "restarting", "stopped", "dead")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose disk has room, whatever the machine's has."""
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    monkeypatch.setattr(command, "describe_full", lambda _home: None)
    monkeypatch.setattr(readiness, "explain_silence", lambda _settings, _part: None)
    return tmp_path


def running(home: Path, *parts: PartReport, state: RoomState = "ready", age: float = 0) -> None:
    """Write the report of a room whose supervisor is this process."""
    own = identify(os.getpid())
    assert own is not None
    now = time.monotonic() - age
    write_report(home, RoomReport(own.pid, own.start_ticks, boot_id(), state, "x", "http://ui", now, None, parts))


def part(name: str, state: PartState) -> PartReport:
    own = identify(os.getpid())
    assert own is not None
    return PartReport(name, state=state, pid=own.pid, start_ticks=own.start_ticks)


def shown(capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as end:
        command.status(json_=as_json)
    return end.value.exit_code, capsys.readouterr().out


def room_line(out: str) -> str:
    return next(line for line in out.splitlines() if line.startswith("room"))


@pytest.mark.parametrize("state", ALL)
def test_room_is_ready_only_while_each_part_is(
    home: Path, capsys: pytest.CaptureFixture[str], state: PartState
) -> None:
    running(home, part("one", "ready"), part("two", state))
    code, out = shown(capsys)
    good = state in ("ready", "done")
    assert code == (0 if good else 1)
    line = room_line(out).split(maxsplit=1)[1]
    assert line == (f"ready, pid {os.getpid()}" if good else f"not ready, pid {os.getpid()}: two is {state}")
    document = json.loads(shown(capsys, as_json=True)[1])
    assert (document["state"], document["ready"]) == (("ready", True) if good else ("not ready", False))
    assert document["faults"] == ([] if good else [f"two is {state}"])


def test_room_that_nobody_watches_is_not_ready(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running(home, part("one", "ready"), part("two", "done"), age=SILENT_SECONDS + 15)
    code, out = shown(capsys)
    assert code == 1
    assert "not ready" in room_line(out)
    assert "the supervisor has reported nothing for 45 s" in room_line(out)


def test_room_of_parts_that_are_done_is_not_ready_when_nobody_watches(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running(home, part("two", "done"), age=SILENT_SECONDS + 1)
    assert shown(capsys)[0] == 1


def test_full_disk_is_not_ready(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running(home, part("one", "ready"))
    monkeypatch.setattr(command, "describe_full", lambda _home: "the disk of X is full")
    code, out = shown(capsys)
    assert code == 1
    assert room_line(out).split(maxsplit=1)[1] == f"not ready, pid {os.getpid()}: its disk is full"
    assert "the disk of X is full" in out
    assert json.loads(shown(capsys, as_json=True)[1])["ready"] is False


@pytest.mark.parametrize("state", ["starting", "stopping"])
def test_room_that_starts_or_stops_says_so(home: Path, capsys: pytest.CaptureFixture[str], state: RoomState) -> None:
    running(home, part("one", "ready"), state=state)
    code, out = shown(capsys)
    assert (code, room_line(out).split(maxsplit=1)[1]) == (1, f"{state}, pid {os.getpid()}")


def test_part_that_died_since_the_report_is_dead(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = replace(part("two", "ready"), start_ticks=1)
    running(home, part("one", "ready"), gone)
    assert "two is dead" in room_line(shown(capsys)[1])
