"""What PostgreSQL does for a part that seems to do nothing, asked of a real one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest

from deployments.room import database_work as module
from deployments.room.database_work import DatabaseWork, database_work
from tests.support.waiting import wait_for

Execute = Callable[[str], None]


@pytest.fixture
def executing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Execute]:
    """Execute a statement in a session of its own that ends with the test."""
    monkeypatch.setattr(module, "STATEMENT_SECONDS", 0.0)
    begun: list[tuple[psycopg.Connection, threading.Thread]] = []

    def execute(statement: str) -> None:
        db = psycopg.connect(empty_database)

        def work() -> None:
            with suppress(psycopg.Error):
                db.execute(statement.encode())

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        begun.append((db, thread))

    yield execute
    for db, thread in begun:
        with psycopg.connect(empty_database, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [db.info.backend_pid])
        thread.join(30)
        db.close()


def found(url: str) -> DatabaseWork | None:
    """What is seen, once something is."""
    database = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    work = database_work(url, [database])
    return work if work != DatabaseWork() else None


def test_statement_that_takes_long_is_work(empty_database: str, executing: Execute) -> None:
    assert found(empty_database) is None
    executing("SELECT  pg_sleep(600)")
    work = wait_for(lambda: found(empty_database), seconds=30, what="the statement is seen")
    assert work
    assert work.held is None
    assert "PostgreSQL executes for " in (work.executing or "")
    assert (work.executing or "").endswith("SELECT pg_sleep(600)")


def test_wait_for_a_lock_is_none_and_names_who_holds_it(empty_database: str, executing: Execute) -> None:
    with psycopg.connect(empty_database, application_name="forgotten") as holder:
        holder.execute("CREATE TABLE wanted ()")
        holder.commit()
        holder.execute("LOCK TABLE wanted")
        executing("SELECT pg_sleep(600)")
        executing("DROP TABLE wanted")
        work = wait_for(
            lambda: (seen := found(empty_database)) and seen.held and seen, seconds=30, what="the wait is seen"
        )
        assert work
        assert work.executing is None
        assert "(application 'forgotten'" in (work.held or "")
        assert f"SELECT pg_terminate_backend({holder.info.backend_pid})" in (work.held or "")


def test_server_that_is_away_does_nothing() -> None:
    assert database_work("postgresql://nobody@127.0.0.1:1/none", ["none"]) == DatabaseWork()
