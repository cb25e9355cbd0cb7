"""`ops down`: what is said of the runs that it ends. `ops up`: what is refused before anything starts."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli import room as command
from deployments.room import room as rooms
from deployments.room.room import Stopped
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs import lookup
from opsdb.states import RunStatus
from tests.support.runs_made_up import details


@pytest.fixture(autouse=True)
def stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report: Any = SimpleNamespace(pid=7)
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    monkeypatch.setattr(command, "current_report", lambda _home: report)
    monkeypatch.setattr(rooms, "stop_room", lambda _settings: Stopped(report))


def test_down_says_which_runs_it_waits_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    view = details(status=RunStatus.RUNNING, text="odoo_db_backup").view
    monkeypatch.setattr(lookup, "reading", lambda _settings: nullcontext())
    monkeypatch.setattr(lookup, "list_runs", lambda _db, *, status: [view] * (status is RunStatus.RUNNING))
    command.down()
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"Waits up to 30 s for run {view.run.id.hex[-8:]} (odoo_db_backup). ")
    assert out[1:] == ["The room (pid 7) is stopped."]


def test_down_needs_no_database(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def away(_settings: object) -> None:
        raise RoomUnreachableError("away")

    monkeypatch.setattr(lookup, "reading", away)
    command.down()
    assert capsys.readouterr().out == "The room (pid 7) is stopped.\n"


def test_up_refuses_authorities_that_the_alerter_could_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "run", lambda *_, **__: pytest.fail("the room was started"))
    monkeypatch.setenv("OPS_ALERT_CA_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match=r"OPS_ALERT_CA_FILE: .*/none\.pem: No such file"):
        command.up()
