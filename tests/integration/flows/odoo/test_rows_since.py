"""The rows that were written since a protection: what is counted, what is not, and in which time."""

from __future__ import annotations

import time

import psycopg
import pytest

from flows.backup.database import Database
from flows.odoo import rows_since as counting
from flows.odoo.rows_since import count_rows, rows_since

SINCE = "2020-01-01 00:00:00"


@pytest.fixture
def live(database: str, postgres: str) -> Database:
    return Database(database, postgres.format(database="postgres"))


def execute(database: Database, *statements: str) -> None:
    with psycopg.connect(database.url, dbname=database.name) as db:
        for statement in statements:
            db.execute(statement.encode())


def test_rows_on_another_server_are_not_counted_though_nobody_reaches_it(live: Database) -> None:
    """A foreign table shows what lies elsewhere: no rollback takes that back, and its server may be gone."""
    execute(
        live,
        "CREATE FOREIGN DATA WRAPPER elsewhere",
        "CREATE SERVER one FOREIGN DATA WRAPPER elsewhere",
        "CREATE SERVER two FOREIGN DATA WRAPPER elsewhere",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER one",
        "CREATE FOREIGN TABLE far (id int) SERVER one",
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_near PARTITION OF parted FOR VALUES FROM (0) TO (10)",
        "CREATE FOREIGN TABLE parted_far PARTITION OF parted FOR VALUES FROM (10) TO (20) SERVER two",
        "INSERT INTO parted_near VALUES (1)",
    )
    before = count_rows(live)
    assert "public.parted" in before.rows
    execute(live, "DROP USER MAPPING FOR CURRENT_USER SERVER one", "INSERT INTO parted_near VALUES (2)")
    since = rows_since(live, before.rows, SINCE)
    assert (since.changed, since.uncounted) == (["parted (+1 rows)"], [])


def test_count_ends_at_its_time_limit_and_names_what_it_did_not_count(
    live: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a lock may bring about, or a big table: a person waits for the question."""
    execute(live, "CREATE TABLE held (id int)", "CREATE TABLE sale_order (id int)", "ANALYZE")
    before = count_rows(live)
    execute(live, "INSERT INTO sale_order VALUES (1)")
    monkeypatch.setattr(counting, "COUNT_SECONDS", 0.7)
    with psycopg.connect(live.url, dbname=live.name) as other:
        other.execute("LOCK TABLE held")
        began = time.monotonic()
        since = rows_since(live, before.rows, SINCE)
        assert time.monotonic() - began < 5
    assert "public.held" in since.uncounted
    assert "not counted: " in since.words
    assert not [one for one in since.changed if one.startswith("held")]  # nobody knows whether it is gone
    monkeypatch.setattr(counting, "COUNT_SECONDS", 0.0)
    nothing = rows_since(live, before.rows, SINCE)
    assert nothing.changed == []
    assert set(nothing.uncounted) == set(before.rows)
