"""What the page of a backup says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from flows.backup import told
from flows.engine.active_run import ActiveRun, activated
from opsdb.errors import RoomUnreachableError
from opsdb.runs.backups import Drill
from opsdb.settings import Settings

RESULT = {
    "file": "/b/shop_20260101T000000Z.dump",
    "size_bytes": 1_300_000,
    "all_files_bytes": 1_400_000,
    "rows": 74124,
    "tables": 10,
    "sha256": "ab" * 32,
    "other_files": ["shop_20260101T000000Z.dump.globals.sql"],
    "pruned": [],
}
PARAMETERS: dict[str, Any] = {"odoo_db": "shop", "backup_dir": None}


@pytest.fixture(autouse=True)
def _run() -> Iterator[None]:
    run = ActiveRun(id=uuid4(), attempt=1, settings=Settings(), record=lambda _: None, in_lane=False)
    with activated(run):
        yield


def recorded(monkeypatch: pytest.MonkeyPatch, drills: dict[str, Drill] | None) -> None:
    @contextmanager
    def reading(_settings: Settings, *, statement_seconds: float) -> Iterator[None]:
        assert statement_seconds <= 3, "a database that is slow does not hold up the end of a run"
        if drills is None:
            raise RoomUnreachableError
        yield

    monkeypatch.setattr(told, "reading", reading)
    monkeypatch.setattr(told, "last_drills", lambda _db: drills)


def test_backup_says_what_it_holds_and_how_it_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    drills = {
        "shop_20251231T000000Z.dump": Drill(run_id=uuid4(), at=at, seconds=3.0),
        "other_20251231T000000Z.dump": Drill(run_id=uuid4(), at=at.replace(month=5), seconds=3.0),
    }
    recorded(monkeypatch, drills)
    facts = told.backup_facts({**PARAMETERS, "backup_dir": "/my folder"}, RESULT)
    rows = dict(facts.rows)
    assert (rows["size of the dump"], rows["size of all files"]) == ("1.3 MB", "1.4 MB")
    assert rows["rows"] == "74,124 in 10 tables"
    assert rows["copies"] == "none: it is in its folder alone"
    assert rows["last drill"] == "an earlier one, 2026-01-02 03:04 UTC"
    assert list(facts.commands) == [
        "ops run odoo_db_restore -p backup=shop_20260101T000000Z.dump -p odoo_db=shop_restored"
        " -p 'backup_dir=/my folder'"
    ]


@pytest.mark.parametrize(
    ("drills", "drill", "said"),
    [
        ({}, None, "never: `ops run odoo_restore_drill` proves a backup"),
        (None, None, "not known: the ops database did not answer"),
        (None, {"restore_seconds": 4.2}, "this one was restored and compared, in 4.2 s"),
        ({}, {"not_drilled": "no disk"}, "never: `ops run odoo_restore_drill` proves a backup"),
    ],
)
def test_last_drill_is_said_as_far_as_it_is_known(
    monkeypatch: pytest.MonkeyPatch, drills: dict[str, Drill] | None, drill: dict[str, Any] | None, said: str
) -> None:
    recorded(monkeypatch, drills)
    result: dict[str, Any] = {**RESULT, "rows": None, "target": {"url": "s3://b/shop.dump"}}
    rows = dict(told.backup_facts(PARAMETERS, result | ({"drill": drill} if drill else {})).rows)
    assert rows["last drill"] == said
    assert rows["rows"] == "not counted, in 10 tables"
    assert rows["copies"] == "`s3://b/shop.dump`"


def test_night_says_what_became_of_each_database() -> None:
    run = UUID(int=0xABCDEF12)
    backups = {"odoo_prod": {"run": str(run), "outcome": "succeeded", "tries": 2}}
    facts = told.night_facts({}, {"session": "1234", "backups": backups})
    assert list(facts.rows) == [(r"odoo\_prod", "succeeded, try 2, run `abcdef12`")]
    assert "ops session show 1234" in facts.commands
