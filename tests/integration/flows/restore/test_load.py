"""The planner's statistics of a restored database."""

from __future__ import annotations

from uuid import uuid4

import pytest

from flows.backup.postgres import connect
from flows.engine.active_run import ActiveRun, activated
from flows.restore.load import analyze
from opsdb.record.entries import Entry
from opsdb.settings import Settings


@pytest.fixture(autouse=True)
def room() -> None:
    """None is needed: no runbook runs."""


def test_statistics_that_cannot_be_collected_are_an_event_and_no_failure(postgres: str) -> None:
    told: list[Entry] = []
    with activated(ActiveRun(uuid4(), 1, Settings(), told.append, in_lane=False)):
        db = connect(postgres.format(database="postgres"))
        db.close()
        analyze(db)
    assert "the planner's statistics were not collected: the connection is closed" in str(told)
