"""The planner's statistics of a restored database."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from flows.engine.active_run import ActiveRun, activated
from flows.restore.load import analyze
from opsdb.record.entries import Entry
from opsdb.settings import Settings


@pytest.fixture(autouse=True)
def room() -> None:
    """None is needed: no runbook runs."""


def test_statistics_that_cannot_be_collected_are_an_event_and_no_failure(postgres: str, empty_database: str) -> None:
    told: list[Entry] = []
    with activated(ActiveRun(uuid4(), 1, Settings(), told.append, in_lane=False)):
        analyze(postgres.format(database="postgres"), "nowhere")
        with psycopg.connect(empty_database) as db:
            db.execute("CREATE TABLE line AS SELECT 1 AS id")
            db.execute("CREATE FUNCTION no(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1/$1; END'")
            db.execute("CREATE INDEX ON line (public.no(id))")
            db.execute("CREATE OR REPLACE FUNCTION no(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1/0'")
        analyze(postgres.format(database="postgres"), str(conninfo_to_dict(empty_database)["dbname"]))
    assert len(told) == 2
    assert "not collected: cannot connect to PostgreSQL" in str(told[0])
    assert "not collected: division by zero" in str(told[1])
