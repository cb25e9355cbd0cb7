"""Which databases the forms of runbooks name, on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from flows.backup import odoo_databases as databases
from flows.backup.odoo_databases import find_odoo_databases

ODOO = "CREATE TABLE public.ir_module_module (id int)"


def make(postgres: str, name: str, *statements: str) -> str:
    """A new database of that name, in which these were executed."""
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        with psycopg.connect(db.info.dsn, dbname=name, autocommit=True) as own:
            for statement in statements:
                own.execute(statement.encode())
    return name


@pytest.fixture
def mark(postgres: str) -> Iterator[str]:
    """A mark in the names of the test's databases, which are dropped after it."""
    mark = uuid4().hex[:8]
    yield mark
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        found = db.execute("SELECT datname FROM pg_database WHERE position(%s IN datname) > 0", (mark,)).fetchall()
        for (name,) in found:
            db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests left on this server is looked at as well, on a machine with other work to do."""
    monkeypatch.setattr(databases, "MOST", 10_000)
    monkeypatch.setattr(databases, "ALL_SECONDS", 60.0)


def found_with(mark: str, postgres: str) -> list[str]:
    found = find_odoo_databases(postgres.format(database="postgres"))
    assert found is not None
    return [name for name in found if mark in name]


def test_databases_with_odoos_tables_are_found_and_no_others(postgres: str, mark: str) -> None:
    odoo = make(postgres, f"odoo_{mark}", ODOO)
    make(postgres, f"other_{mark}")
    make(postgres, f"shadow_{mark}", "CREATE SCHEMA x", "CREATE TABLE x.ir_module_module ()")
    closed = make(postgres, f"closed_{mark}", ODOO)
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(closed)))
    assert found_with(mark, postgres) == [odoo]


@pytest.mark.parametrize("name", ["[x](http://{})", "{} <b>", "{}\n# all", "-{}", "{};x", "\x1b[31m{}", "`{}`"])
def test_name_that_no_runbook_takes_is_not_named(postgres: str, mark: str, name: str) -> None:
    make(postgres, name.format(mark), ODOO)
    assert found_with(mark, postgres) == []


def test_database_that_hangs_at_its_login_keeps_no_other_from_the_list(postgres: str, mark: str) -> None:
    """Nothing that a database brings with it runs as the superuser that looks."""
    trap = [
        ODOO,
        "CREATE TABLE seen (who text)",
        "CREATE FUNCTION trap() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO seen VALUES (current_user); END $$",
        "CREATE EVENT TRIGGER trap ON login EXECUTE FUNCTION trap()",
        "ALTER EVENT TRIGGER trap ENABLE ALWAYS",
    ]
    name = make(postgres, f"trap_{mark}", *trap)
    assert found_with(mark, postgres) == [name]
    url = postgres.format(database=name)
    with psycopg.connect(url, options="-c event_triggers=off") as db:
        assert db.execute("SELECT count(*) FROM seen").fetchone() == (0,)


def test_server_that_does_not_answer_is_not_known(postgres: str) -> None:
    began = time.monotonic()
    assert find_odoo_databases("postgresql://nobody@127.0.0.1:1/x") is None
    assert find_odoo_databases(postgres.format(database=f"none_{uuid4().hex}")) is None
    assert find_odoo_databases("nonsense") is None
    assert time.monotonic() - began < 30


def test_list_that_is_not_whole_in_time_is_not_known(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "ALL_SECONDS", 0.0)
    assert find_odoo_databases(postgres.format(database="postgres")) is None
