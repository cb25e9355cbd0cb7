"""What other programs change of a database's definitions while it is backed up: no false alarm, and nothing untrue."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.room.postgres import PROGRAMS
from flows.odoo_db_backup import odoo_db_backup
from tests.integration.flows.backup.beside import create, pg_dump, uncounted, working

gate = pytest.mark.gate


def execute(server: str, database: str, *statements: str) -> None:
    with psycopg.connect(server.format(database=database), autocommit=True) as db:
        for one in statements:
            db.execute(one.encode())


def by_psql(server: str, database: str, statement: str) -> str:
    return f'"{PROGRAMS}/psql" -q "{server.format(database=database)}" -c "{statement}" >&2'


CHANGES: dict[str, tuple[list[str], Callable[[int], str]]] = {
    "function": (
        ["CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 0'"],
        lambda number: f"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT {number}'",
    ),
    "index": (["CREATE INDEX x0 ON a (i)"], lambda number: f"ALTER INDEX x{number - 1} RENAME TO x{number}"),
    "type": (["CREATE TYPE t0 AS ENUM ('a')"], lambda number: f"ALTER TYPE t{number - 1} RENAME TO t{number}"),
    "schema": (
        ["CREATE SCHEMA s0", "CREATE FUNCTION s0.h() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
        lambda number: f"ALTER SCHEMA s{number - 1} RENAME TO s{number}",
    ),
    "trigger": (
        ["CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"],
        lambda number: (
            f"CREATE OR REPLACE TRIGGER g AFTER INSERT ON a FOR EACH ROW WHEN (NEW.i > {number}) EXECUTE FUNCTION g()"
        ),
    ),
}


@gate
@pytest.mark.parametrize("change", CHANGES)
def test_definition_that_changes_all_the_time_is_no_alarm(change: str, postgres: str) -> None:
    before, statement = CHANGES[change]
    database, numbers = create(postgres), itertools.count(1)
    execute(postgres, database, "CREATE TABLE a (i int)", "INSERT INTO a VALUES (1)", *before)

    def work(db: psycopg.Connection[Any]) -> None:
        db.execute(statement(next(numbers)).encode())

    with working(postgres, database, work) as waits:
        pg_dump(postgres, database)
        drill = odoo_db_backup(database, restore_drill=True)["drill"]
    assert drill["rows_compared"] <= 1  # of a table that is altered none may be
    assert "function" in drill["not_compared"]
    assert not waits.errors


IN_THE_MOMENT = [
    "DROP VIEW v",
    *(
        pytest.param(one, marks=gate)
        for one in ("CREATE OR REPLACE FUNCTION f() RETURNS int AS 'SELECT 2' LANGUAGE sql", "DROP FUNCTION f")
    ),
]


@pytest.mark.parametrize("statement", IN_THE_MOMENT)
def test_change_in_the_moment_when_the_dump_is_made_is_no_alarm(
    statement: str, postgres: str, stand_in: Callable[[str], Path]
) -> None:
    database = create(postgres)
    execute(
        postgres,
        database,
        "CREATE TABLE a (i int)",
        "CREATE VIEW v AS SELECT i FROM a",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    stand_in(f'"$REAL" "$@" && {by_psql(postgres, database, statement)}')
    assert odoo_db_backup(database, restore_drill=True)["drill"]["tables_compared"] == 1


@gate
def test_temporary_tables_and_work_with_rows_change_no_definition(postgres: str) -> None:
    database = create(postgres)
    execute(postgres, database, "CREATE TABLE a (i int PRIMARY KEY, t text)", "INSERT INTO a VALUES (1, 'a')")

    def work(db: psycopg.Connection[Any]) -> None:
        db.execute("CREATE TEMP TABLE mine (i serial PRIMARY KEY, t text DEFAULT 'x', CHECK (i > 0))")
        db.execute("DROP TABLE mine")
        db.execute("UPDATE a SET t = t || 'a'")
        db.execute("VACUUM ANALYZE a")

    with working(postgres, database, work):
        drill = odoo_db_backup(database, restore_drill=True)["drill"]
    assert drill["not_compared"] == []


@gate
def test_table_rewritten_as_the_dump_begins_is_told_of(
    postgres: str, stand_in: Callable[[str], Path], told: list[str]
) -> None:
    database = create(postgres)
    execute(postgres, database, "CREATE TABLE a (i int)", "INSERT INTO a VALUES (1)")
    stand_in(f'{by_psql(postgres, database, "ALTER TABLE a ALTER i TYPE bigint")}\n"$REAL" "$@"')
    assert "public.a" in uncounted(odoo_db_backup(database))
    assert any("public.a: it was emptied or rewritten" in one and "may be missing in the dump" in one for one in told)


@pytest.mark.soak
def test_row_that_is_too_large_to_be_shown_is_told_of(postgres: str) -> None:
    database = create(postgres)
    execute(
        postgres,
        database,
        "CREATE TABLE q (t text)",
        "ALTER TABLE q ALTER t SET STORAGE EXTERNAL",
        "INSERT INTO q SELECT repeat('\"', 540000000)",
    )
    assert uncounted(odoo_db_backup(database)) == ["public.q"]


@gate
def test_who_rebuilds_an_index_for_long_keeps_no_backup_from_it(postgres: str) -> None:
    database = create(postgres)
    execute(postgres, database, "CREATE TABLE a (i int)", "CREATE INDEX x ON a (i)", "INSERT INTO a VALUES (1)")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with psycopg.connect(postgres.format(database=database)) as db:
            db.execute("REINDEX INDEX x")
            held.set()
            over.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    try:
        pg_dump(postgres, database)
        odoo_db_backup(database)
    finally:
        over.set()
        thread.join()


@gate
def test_table_of_an_extension_that_the_role_may_not_read_is_no_part_of_a_dump(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = create(postgres)
    role = f"{database}_owner"
    execute(
        postgres,
        database,
        f"CREATE ROLE {role} LOGIN",
        f"ALTER ROLE {role} SET transaction_timeout = '2s'",
        f"ALTER DATABASE {database} OWNER TO {role}",
        "CREATE SCHEMA hidden",
        "CREATE TABLE hidden.secret (i int)",
        "ALTER EXTENSION plpgsql ADD TABLE hidden.secret",
        f"SET ROLE {role}",
        "CREATE TABLE a (i int)",
    )
    server = postgres.replace("//postgres@", f"//{role}@")
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", server.format(database="postgres"))
    pg_dump(server, database)
    assert uncounted(odoo_db_backup(database)) == []
