"""`ops status` of a room whose alerter is held up, on a real PostgreSQL."""

from __future__ import annotations

import json
import os

import psycopg
import pytest

from cli import room
from deployments.room.report import PartReport, RoomReport
from opsdb.processes.identity import boot_id
from opsdb.settings import Settings
from tests.integration.cli.conftest import Ops
from tests.support.alerts_lab import Lab

PARTS = (PartReport("postgres", state="ready"), PartReport("alerter", state="not ready"))


@pytest.fixture(autouse=True)
def report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room runs, and its alerter is not ready."""
    found = RoomReport(os.getpid(), 0, boot_id(), "not ready", "2026-01-01T00:00:00+00:00", "http://ui", parts=PARTS)
    monkeypatch.setattr(room, "current_report", lambda _home: found)


def test_status_names_who_holds_up_the_alerter(ops: Ops, lab: Lab, settings: Settings) -> None:
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '75 s' WHERE name = 'alerts'")
    with psycopg.connect(settings.ops_url, application_name="psql") as db:
        db.execute("SELECT * FROM ops.room_locks WHERE name = 'alerter' FOR UPDATE")
        holder = f"role 'postgres' (application 'psql', pid {db.info.backend_pid}) holds the lock alerter"
        code, out, _ = ops("status")
        assert code == 1
        assert "has not looked at the rules for 7" in out
        assert holder in out
        [postgres, alerter] = json.loads(ops("status", "--json")[1])["parts"]
    assert postgres["note"] == ""
    assert holder in alerter["note"]


def test_status_of_an_alerter_that_nobody_holds_up_names_nobody(ops: Ops, lab: Lab) -> None:
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '75 s' WHERE name = 'alerts'")
    out = ops("status")[1]
    assert "has not looked at the rules for 7" in out
    assert "holds" not in out
