"""The versions of templates that ran: each is kept once, numbered, and for good."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from opsdb.database import connect, driver_url
from opsdb.record.entries import TemplateUsed, apply_line
from opsdb.runs.template_versions import keep_version, read_record
from opsdb.settings import Settings

INSERT_RUN = """
WITH s AS (INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 's') RETURNING id)
INSERT INTO ops.runs (id, kind, lane, status, params, created_at, session_id, state_id, state_at)
SELECT :id, 'k', 'A', 'running', '{}', now(), s.id, gen_random_uuid(), now() FROM s
"""
TEMPLATE: dict[str, Any] = {"kind": "k", "steps": [{"name": "a", "command": "true", "timeout": 5}]}


def keep(engine: Engine, definition: str, name: str = "t", **fields: Any) -> int:
    with engine.begin() as db:
        return keep_version(db, name=name, template={**TEMPLATE, **fields}, definition=definition)


def rows(engine: Engine, query: str) -> list[Any]:
    with engine.begin() as db:
        return [tuple(row) for row in db.execute(text(query))]


def test_versions_are_numbered_by_kind_and_kept_once(engine: Engine) -> None:
    assert [keep(engine, one) for one in ("x", "y", "x", "z", "y")] == [1, 2, 1, 3, 2]
    assert keep(engine, "x", kind="other", timeout_seconds=5, retry_policy={"retries": 2}) == 1
    assert keep(engine, "z", name="renamed") == 3
    kept = rows(engine, "SELECT name, version, kind, steps, timeout_seconds, retry_policy FROM ops.run_templates")
    assert len(kept) == 4
    assert kept[-1] == ("t", 1, "other", TEMPLATE["steps"], 5.0, {"retries": 2})
    assert kept[0] == ("t", 1, "k", TEMPLATE["steps"], None, {})


def test_runs_that_start_at_once_number_no_version_twice(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda number: keep(engine, f"d{number % 4}"), range(24)))
    assert sorted(set(numbers)) == [1, 2, 3, 4]
    assert rows(engine, "SELECT count(*) FROM ops.run_templates") == [(4,)]


@pytest.mark.parametrize(
    "forbidden",
    [
        "UPDATE ops.run_templates SET steps = '[]'",
        "DELETE FROM ops.run_templates",
        "TRUNCATE ops.run_templates",
        "INSERT INTO ops.run_templates (name, version, kind, definition) VALUES ('t', 1, 'k', 'other')",
    ],
)
def test_nobody_changes_a_version_not_even_the_owner(engine: Engine, settings: Settings, forbidden: str) -> None:
    keep(engine, "x")
    before = rows(engine, "SELECT * FROM ops.run_templates")
    owner = create_engine(driver_url(settings.ops_url))
    try:
        with pytest.raises(DBAPIError, match=r"neither changed nor deleted|duplicate key"):
            rows(owner, forbidden)
    finally:
        owner.dispose()
    assert rows(engine, "SELECT * FROM ops.run_templates") == before


def test_writer_may_add_and_nothing_else(settings: Settings) -> None:
    engine = connect(settings, role="ops_writer", application="test")
    try:
        assert keep(engine, "x") == 1
        for forbidden in ("UPDATE ops.run_templates SET kind = 'x'", "DELETE FROM ops.run_templates"):
            with pytest.raises(DBAPIError, match="permission denied"):
                rows(engine, forbidden)
    finally:
        engine.dispose()


def test_entry_that_is_applied_late_and_twice_is_told_once(engine: Engine) -> None:
    run: UUID = uuid4()
    with engine.begin() as db:
        db.execute(text(INSERT_RUN), {"id": run})
    keep(engine, "older")
    entry = TemplateUsed(run, name="t", template=TEMPLATE, definition="x")
    for _ in range(2):
        with engine.begin() as db:
            apply_line(db, entry.line())
    assert rows(engine, "SELECT message, data->>'version' FROM ops.run_events") == [
        ("runs version 2 of the template k", "2")
    ]
    with engine.begin() as db:
        record = read_record(db, kind="k")
        nothing = read_record(db, kind="none")
    assert (record.versions, record.last_status) == (2, "running")
    assert record.last_run_at is not None
    assert nothing == (0, None, None)
