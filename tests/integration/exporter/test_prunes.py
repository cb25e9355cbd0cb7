"""What Prometheus hears of a room that deletes what is old, and of one that does not."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from exporter.metrics.collector import Room
from opsdb.settings import Settings
from tests.integration.exporter.conftest import serving


@pytest.mark.parametrize(
    ("prunes", "passes", "hours"),
    [
        (True, "('room', now() - interval '9 h', NULL), ('room', now() - interval '8 h', NULL)", 9),  # none ever ended
        (True, "('person', now() - interval '9 h', now())", None),
        (False, "('installation', now() - interval '9 h', now() - interval '9 h')", None),
        (None, "('room', now() - interval '9 h', now() - interval '8 h')", None),  # it was on, and is not any more
    ],
)
def test_end_of_a_prune_is_told_of_a_room_that_prunes_by_itself(
    settings: Settings, db: psycopg.Connection[Any], prunes: bool | None, passes: str, hours: int | None
) -> None:
    db.execute("DELETE FROM ops.prunes")
    db.execute(f"INSERT INTO ops.prunes (started_by, started_at, finished_at) VALUES {passes}".encode())
    with serving(settings, Room(prunes=prunes)) as served:
        told = served.scrape()("ops_prune_last_end_timestamp_seconds")
    assert told == (None if hours is None else pytest.approx(time.time() - 3600 * hours, abs=60))
