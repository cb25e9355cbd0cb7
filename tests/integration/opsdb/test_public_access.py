"""Who may connect to a database that the room made, and what those who only read can do there."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import make_url

from cli.doctor.database import check_access, check_locks
from deployments.room.databases import prepare_databases, upgrade_databases
from opsdb.migrate import create_database
from opsdb.public_access import MADE_HERE, maintaining, read_public_access
from opsdb.settings import Settings
from tests.integration.opsdb.conftest import Login, as_login

_numbers = itertools.count()
FILLS = (
    "CREATE TEMPORARY TABLE t AS SELECT generate_series(1, 1000)",
    "SELECT lo_create(0)",
    "SELECT lo_creat(131072)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_xact_lock_shared(1, 1)",
    "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000))",
    "CREATE FUNCTION public.make_interval(secs numeric) RETURNS interval LANGUAGE sql AS 'SELECT NULL::interval'",
)
"""What fills a disk, a log or a memory, or misleads, and needs nothing but a connection on a server as it is made."""


@pytest.fixture
def own_server(postgres: str, settings: Settings) -> Settings:
    """A room whose two databases it has made itself, with names that need quotes."""
    ops, prefect = f'Made"here"{next(_numbers)}', f"made_prefect_{next(_numbers)}"
    server = postgres.format(database="postgres")
    for name in (ops, prefect):
        with psycopg.connect(server, autocommit=True) as db:
            db.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            made = sql.SQL("COMMENT ON DATABASE {} IS {}")
            db.execute(made.format(sql.Identifier(name), sql.Literal(MADE_HERE)))
    url = make_url(server).set(database=ops).render_as_string(hide_password=False)
    return settings.model_copy(update={"database_url": SecretStr(url), "prefect_database": prefect})


def may_connect(settings: Settings, login: str, *, database: str | None = None) -> bool:
    try:
        psycopg.connect(as_login(settings, login), dbname=database or make_url(settings.ops_url).database).close()
    except psycopg.OperationalError as error:
        if "permission denied for database" not in str(error):
            raise
        return False
    return True


def execute(settings: Settings, *statements: str) -> None:
    with psycopg.connect(settings.ops_url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def test_only_who_holds_a_right_may_connect_to_what_the_room_made(own_server: Settings, new_login: Login) -> None:
    stranger, reads_all = new_login(), new_login("pg_read_all_data")
    inherits, takes_on = new_login("superset_ro"), new_login()
    table, column, group, member = new_login(), new_login(), new_login(words="NOLOGIN"), new_login()
    everybody = (inherits, takes_on, table, column, member, reads_all)
    upgrade_databases(own_server)
    execute(
        own_server,
        f'GRANT ops_writer TO "{takes_on}" WITH INHERIT FALSE, SET TRUE',
        f'GRANT USAGE ON SCHEMA ops TO "{table}", "{column}", "{group}"',
        f'GRANT SELECT ON ops.runs TO "{table}"',
        f'GRANT SELECT (id) ON ops.runs TO "{column}"',
        f'GRANT "{group}" TO "{member}"',
    )
    upgrade_databases(own_server)
    assert [login for login in everybody if not may_connect(own_server, login)] == []
    assert not may_connect(own_server, stranger)
    assert not may_connect(own_server, stranger, database=own_server.prefect_database)
    assert not may_connect(own_server, inherits, database=own_server.prefect_database)
    with psycopg.connect(as_login(own_server, takes_on)) as db:
        db.execute("SET ROLE ops_writer")
        db.execute("SELECT * FROM ops.runs")


def test_membership_alone_lets_a_login_in_and_its_end_keeps_it_out(own_server: Settings, new_login: Login) -> None:
    upgrade_databases(own_server)
    later = new_login("superset_ro")
    assert may_connect(own_server, later)
    upgrade_databases(own_server)
    execute(own_server, f'REVOKE superset_ro FROM "{later}"')
    assert not may_connect(own_server, later)


def test_right_that_public_was_given_again_is_taken_back(own_server: Settings, new_login: Login) -> None:
    stranger = new_login()
    upgrade_databases(own_server)
    name = make_url(own_server.ops_url).database
    with psycopg.connect(own_server.ops_url, autocommit=True) as db:
        db.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(sql.Identifier(str(name))))
    assert may_connect(own_server, stranger)
    [ops, prefect] = check_access(own_server)
    assert not ops.ok
    assert "run `ops db upgrade`" in ops.advice
    assert prefect.ok
    upgrade_databases(own_server)
    assert not may_connect(own_server, stranger)
    assert [one.ok for one in check_access(own_server)] == [True, True]


@pytest.mark.parametrize("role", ["superset_ro", "ops_monitor"])
def test_reader_fills_nothing(own_server: Settings, open_room: Settings, new_login: Login, role: str) -> None:
    upgrade_databases(own_server)
    execute(own_server, "GRANT CREATE ON SCHEMA public TO PUBLIC")  # as in a database from before PostgreSQL 15
    upgrade_databases(own_server)
    login = new_login(role)
    for attempt in FILLS:
        with psycopg.connect(as_login(own_server, login)) as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(attempt.encode())
    for attempt in FILLS[:-1]:  # each is possible where nothing was closed
        with psycopg.connect(as_login(open_room, login)) as db:
            db.execute(attempt.encode())
            db.rollback()


def rights(settings: Settings) -> list[Any]:
    """What PUBLIC and others may do in the database, and with the server's own functions."""
    with psycopg.connect(settings.ops_url) as db:
        database = "SELECT datacl::text FROM pg_database WHERE datname = current_database()"
        functions = "SELECT oid, proacl::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace ORDER BY oid"
        return [db.execute(database).fetchall(), db.execute(functions).fetchall()]


def test_database_of_somebody_else_is_left_alone_and_the_statements_that_close_it_are_named(
    open_room: Settings, empty_database: str, new_login: Login
) -> None:
    room = open_room.model_copy(update={"prefect_database": str(make_url(empty_database).database)})
    stranger, reader = new_login(), new_login("superset_ro")
    before = rights(room)
    prepare_databases(room)
    assert rights(room) == before
    assert may_connect(room, stranger)
    found = next(iter(check_access(room)))
    assert "every login of the server may connect" in found.found
    grant, revoke = found.advice.removeprefix("as its owner: ").split("; ")
    assert grant.startswith("GRANT CONNECT ON DATABASE ")
    assert "superset_ro" in grant
    assert revoke.startswith("REVOKE CONNECT, TEMPORARY ON DATABASE ")
    execute(room, grant, revoke)
    assert may_connect(room, reader)
    assert not may_connect(room, stranger)
    assert next(iter(check_access(room))).ok


def test_room_marks_the_database_that_it_makes(postgres: str, new_login: Login, settings: Settings) -> None:
    name = f"made_prefect_{next(_numbers)}"
    room = settings.model_copy(update={"prefect_database": name})
    stranger = new_login()
    assert create_database(room.ops_url, name)
    with maintaining(room.ops_url, name) as db:
        assert read_public_access(db).made_here
    assert may_connect(room, stranger, database=name)
    prepare_databases(room)
    assert not may_connect(room, stranger, database=name)


def test_login_that_owns_no_more_what_it_made_still_starts_the_room(own_server: Settings, new_login: Login) -> None:
    upgrade_databases(own_server)
    room_login = new_login("ops_owner", "ops_writer", "ops_monitor")
    room = own_server.model_copy(update={"database_url": SecretStr(as_login(own_server, room_login))})
    upgrade_databases(room)


def test_long_transaction_and_a_held_lock_are_findings(open_room: Settings, new_login: Login) -> None:
    assert [one.ok for one in check_locks(open_room)] == [True]
    login = new_login("ops_writer")
    with psycopg.connect(as_login(open_room, login), application_name="psql") as db:
        db.execute("SELECT * FROM ops.room_locks WHERE name = 'verdicts' FOR UPDATE")
        [found] = check_locks(open_room)
        assert found.found == f"role '{login}' (application 'psql', pid {db.info.backend_pid}) holds the lock verdicts"
        assert f"pg_terminate_backend({db.info.backend_pid})" in found.advice
    assert [one.ok for one in check_locks(open_room)] == [True]
