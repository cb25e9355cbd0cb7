"""Who works in a database waits no longer for its backup than for plain pg_dump."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.backup import snapshot
from flows.backup.contents import Table, read_rows
from flows.backup.manifest import Rows
from flows.backup.postgres import Connection
from flows.odoo_db_backup import odoo_db_backup
from tests.integration.flows.backup.beside import create, pg_dump, uncounted, working

_numbers = itertools.count()
gate = pytest.mark.gate


SLOWLY = """\
start=$(date +%s.%N)
"$REAL" "$@"
code=$?
echo "$start $(date +%s.%N)" >> TIMES
exit "$code"
"""
SLACK_SECONDS = 2.0
"""For a busy machine: what is looked for is a wait for the counting, which takes 20 s in these tests."""


@pytest.fixture
def dumping(stand_in: Callable[[str], Path], tmp_path: Path) -> Callable[[], float]:
    """How long pg_dump ran in the last backup."""
    times = tmp_path / "times"
    stand_in(SLOWLY.replace("TIMES", str(times)))

    def seconds() -> float:
        start, end = map(float, times.read_text().splitlines()[-1].split())
        return end - start

    return seconds


def queue(server: str) -> str:
    """A database with a table to wait for, and one that takes pg_dump a second."""
    database = create(server)
    with psycopg.connect(server.format(database=database), autocommit=True) as db:
        db.execute("CREATE TABLE job (id serial PRIMARY KEY, what text)")
        db.execute("CREATE VIEW open_job AS SELECT * FROM job WHERE what <> 'done'")
        db.execute(
            "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 10) AS text FROM generate_series(1, 60000) g"
        )
    return database


def empty_the_queue(db: psycopg.Connection[Any]) -> None:
    with db.transaction():
        db.execute("TRUNCATE job")
        db.execute("INSERT INTO job (what) SELECT 'todo' FROM generate_series(1, 10)")


def alter_the_queue(db: psycopg.Connection[Any]) -> None:
    db.execute("ALTER TABLE job ALTER what SET DEFAULT 'todo'")  # pg_dump does not mind what changes before its lock
    db.execute("ALTER TABLE job ALTER what DROP DEFAULT")


def index_concurrently(db: psycopg.Connection[Any]) -> None:
    db.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS slow ON job (what)")
    db.execute("DROP INDEX slow")


WORKS = {"truncate": empty_the_queue, "alter": alter_the_queue, "index": index_concurrently}


@pytest.mark.parametrize("work", ["truncate", *(pytest.param(one, marks=gate) for one in WORKS if one != "truncate")])
def test_who_works_in_the_database_waits_no_longer_than_for_pg_dump(
    work: str, postgres: str, dumping: Callable[[], float]
) -> None:
    database = queue(postgres)
    with working(postgres, database, WORKS[work]) as plain:
        pg_dump(postgres, database)
    with working(postgres, database, WORKS[work]) as beside:
        odoo_db_backup(database)
    assert not plain.errors + beside.errors
    assert max(beside.seconds) <= dumping() + SLACK_SECONDS


def test_who_comes_while_a_table_is_counted_waits_no_longer_than_for_pg_dump(
    postgres: str, dumping: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = threading.Event()

    def slowly(db: Connection, table: Table) -> Rows:
        if table.label == "public.big":
            counting.set()
            db.execute("SELECT pg_sleep(20)")
        return read_rows(db, table)

    def empty(db: psycopg.Connection[Any]) -> None:
        if counting.is_set():
            db.execute("TRUNCATE job, big")

    database = queue(postgres)
    monkeypatch.setattr(snapshot, "read_rows", slowly)
    with working(postgres, database, empty) as waits:
        result = odoo_db_backup(database)
    assert uncounted(result) == ["large objects", "public.big", "public.job"]  # it was let go of before they came
    assert not waits.errors
    assert max(waits.seconds) <= dumping() + SLACK_SECONDS


@gate
@pytest.mark.parametrize("why", [psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled])
def test_what_could_not_be_counted_is_told_and_the_backup_is_restored(
    why: type[psycopg.Error], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(db: Connection, table: Table) -> Rows:
        if table.label == "public.job":
            raise why("canceling statement due to a timeout")
        return read_rows(db, table)

    database = queue(postgres)
    monkeypatch.setattr(snapshot, "read_rows", never)
    result = odoo_db_backup(database, restore_drill=True)
    assert uncounted(result) == ["public.job"]
    assert (result["drill"]["tables_compared"], result["drill"]["not_compared"]) == (1, ["public.job"])
