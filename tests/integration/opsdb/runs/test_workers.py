"""The marks by which others see that a worker lives, against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from opsdb.database import connect
from opsdb.runs.workers import count_workers, remove_worker, write_worker_heartbeat
from opsdb.settings import Settings


@pytest.fixture
def db(settings: Settings) -> Iterator[Connection]:
    engine = connect(settings, application="test")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def marks(db: Connection) -> list[tuple[str, str]]:
    rows = db.execute(text("SELECT name, lane FROM ops.workers ORDER BY 1, 2"))
    return [(row.name, row.lane) for row in rows]


def test_a_worker_is_there_once_for_each_lane_until_it_leaves(db: Connection) -> None:
    write_worker_heartbeat(db, name="a-1", host="a", lanes=["A"])
    write_worker_heartbeat(db, name="a-1", host="a", lanes=["A"])
    write_worker_heartbeat(db, name="b-2", host="b", lanes=["A", "D"])
    assert marks(db) == [("a-1", "A"), ("b-2", "A"), ("b-2", "D")]
    remove_worker(db, name="b-2")
    assert marks(db) == [("a-1", "A")]


def test_a_killed_worker_is_forgotten_for_the_one_that_replaced_it_on_its_host(db: Connection) -> None:
    for name in ("a-1", "b-1"):
        write_worker_heartbeat(db, name=name, host=name[0], lanes=["A", "B"])
    db.execute(text("UPDATE ops.workers SET heartbeat_at = heartbeat_at - interval '1 minute'"))
    write_worker_heartbeat(db, name="a-2", host="a", lanes=["A"])
    assert marks(db) == [("a-1", "B"), ("a-2", "A"), ("b-1", "A"), ("b-1", "B")]


def test_lanes_are_served_by_workers_that_were_heard_of_lately(db: Connection) -> None:
    write_worker_heartbeat(db, name="a-1", host="a", lanes=["A", "B"])
    write_worker_heartbeat(db, name="b-1", host="b", lanes=["B"])
    assert count_workers(db, seconds=30) == {"A": 1, "B": 2}
    db.execute(text("UPDATE ops.workers SET heartbeat_at = heartbeat_at - interval '31 s' WHERE name = 'a-1'"))
    assert count_workers(db, seconds=30) == {"B": 1}
