"""A room whose record and Prefect's database are of one test alone; no server runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from opsdb.settings import Settings
from tests.support.postgres import new_database

_numbers = itertools.count()


@pytest.fixture
def room(settings: Settings, postgres: str) -> Iterator[Settings]:
    """A room that keeps runs for 90 days, and whose sync has recorded all that ended, a host check of today at last."""
    name = f"prefect_prune_{next(_numbers)}"
    with psycopg.connect(settings.ops_url) as db:
        db.execute("INSERT INTO ops.sync_marks (name, at) VALUES ('sync', now())")
        db.execute(
            "WITH today AS (INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'today') RETURNING id) "
            "INSERT INTO ops.runs (id, session_id, kind, lane, status, outcome, finished_at, state_id, state_at) "
            "SELECT gen_random_uuid(), id, 'host_check', 'A', 'succeeded', 'succeeded', now(), gen_random_uuid(), "
            "now() FROM today"
        )
    with new_database(postgres, name, template="prefect"):
        yield settings.model_copy(update={"prefect_database": name})
