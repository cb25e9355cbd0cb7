"""Entries become rows, also those of the version before, which an upgrade finds in the journals on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from opsdb.record.recorder import deliver_abandoned
from tests.support.journals import OLD_JOURNAL

ASKED = "waits for approval: deploy until 2026-09-21 14:33 UTC"

ROWS = {
    "SELECT kind, lane::text, priority, params->>'odoo_db', status, attempt, max_attempts, created_at::text,"
    " resource, outcome, error->>'message' FROM ops.runs": [
        (
            *("odoo_db_backup", "B", 10, "odoo_prod", "queued", 2, 2, "2026-09-21 13:33:01.25+00"),
            *("odoo_db:odoo_prod", "failed", "disk full"),
        )
    ],
    "SELECT id::text, type, name, message FROM ops.run_states ORDER BY at": [
        ("00000000-0000-0000-0000-000000000001", "SCHEDULED", "Scheduled", None),
        ("00000000-0000-0000-0000-000000000002", "PENDING", "Pending", "claimed by ops-7"),
        ("00000000-0000-0000-0000-000000000003", "RUNNING", "Running", None),
        ("00000000-0000-0000-0000-000000000004", "PAUSED", "Suspended", ASKED),
    ],
    "SELECT attempt, index, name, status, command, timeout_seconds, definition, exit_code, must_run_again,"
    " finished_at >= started_at FROM ops.run_steps ORDER BY index": [
        (1, 1, "dump", "succeeded", "pg_dump", 600.0, "d1", 0, True, True),
        (1, 2, "verify", "skipped", "pg_restore", 60.0, "d1", 0, False, True),
        (1, 3, "approval", "suspended", "approve", 60.0, "d1", None, False, True),
    ],
    "SELECT attempt, index, result FROM ops.step_results ORDER BY index": [
        (1, 1, {"stdout": "ok"}),
        (1, 2, {"value": 7}),
    ],
    "SELECT id::text, level, message, data FROM ops.run_events ORDER BY message": [
        ("00000000-0000-0000-0000-000000000065", "warning", "copied", {"bytes": 12}),
        ("00000000-0000-0000-0000-000000000067", "info", "runs version 1 of the template reindex", {"version": 1}),
    ],
    "SELECT id::text, kind, name, storage_path, size_bytes, metadata FROM ops.artifacts": [
        ("00000000-0000-0000-0000-000000000066", "file", "odoo_prod.dump", "/b/odoo_prod.dump", 12, {"md": 1})
    ],
    "SELECT kind, name, version, definition FROM ops.run_templates": [("reindex", "reindex", 1, "t1")],
}


@pytest.mark.parametrize("times", [1, 2])
def test_journal_of_the_version_before_is_delivered(engine: Engine, tmp_path: Path, times: int) -> None:
    for _ in range(times):
        (tmp_path / "0192f0c4-0000-7000-8000-00000000abcd.7.jsonl").write_bytes(OLD_JOURNAL.read_bytes())
        assert deliver_abandoned(engine, tmp_path) == 1
    assert not (tmp_path / "refused").exists()
    with engine.connect() as db:
        assert {query: [tuple(row) for row in db.execute(text(query))] for query in ROWS} == ROWS
