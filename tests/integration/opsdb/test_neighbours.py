"""What other logins of the server can do to the locks and the upgrades of a room."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import get_context
from typing import Any

import psycopg
import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from deployments.room.readiness import alerter_works, explain_silence, sync_is_current
from exporter.alerting.alerter import Alerter
from opsdb import migrate
from opsdb.database import connect, driver_url
from opsdb.errors import OpsError
from opsdb.migrate import alembic_config, head, upgrade
from opsdb.room_locks import Hindrance, Lock, read_hindrances, try_lock
from opsdb.runs.template_versions import keep_version
from opsdb.runs.totals import fold_deltas
from opsdb.settings import Settings
from tests.integration.opsdb.conftest import Login, as_login
from tests.support.postgres import running, short_folder

ADVISORY = (0x0A1E7, 0x0B5DB, 0x0B5DC, 0x0B5DD)
"""The locks that the room took by numbers, before it had a table for them."""


@contextmanager
def session(settings: Settings, login: str, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of another login that stays open."""
    with closing(psycopg.connect(as_login(settings, login), application_name="eve's tool")) as db:
        for statement in statements:
            db.execute(statement.encode())
        yield db


def one_cycle(settings: Settings) -> bool:
    """Whether an alerter gets its turn, by the mark that it leaves."""
    engine = connect(settings, application="alerter", statement_seconds=2)
    try:
        Alerter(settings)._cycle(engine, 0)
    finally:
        engine.dispose()
    return alerter_works(settings.ops_url)


def test_login_that_holds_every_advisory_lock_holds_up_nothing(open_room: Settings, new_login: Login) -> None:
    template = "SELECT pg_advisory_lock(hashtextextended('ops.run_templates:k', 0))"
    taken = [f"SELECT pg_advisory_lock({number})" for number in ADVISORY]
    with session(open_room, new_login(), template, *taken):
        assert one_cycle(open_room)
        engine = connect(open_room, application="sync", statement_seconds=2)
        with engine.begin() as db:
            db.execute(text("INSERT INTO ops.metric_deltas (name) VALUES ('created')"))
            assert fold_deltas(db) == 1
            assert keep_version(db, name="t", template={"kind": "k", "steps": []}, definition="x") == 1
            assert try_lock(db, Lock.VERDICTS)
        engine.dispose()
        assert upgrade(open_room) == head()


@pytest.mark.parametrize("role", ["ops_monitor", "superset_ro"])
def test_reader_cannot_take_a_lock_of_the_room(open_room: Settings, new_login: Login, role: str) -> None:
    login = new_login(role)
    modes = ("ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE")
    strengths = ("UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE")
    attempts = [
        *(f"LOCK TABLE ops.{table} IN {mode} MODE" for table in ("room_locks", "alembic_version") for mode in modes),
        *(
            f"SELECT * FROM ops.{table} FOR {one}"
            for table in ("room_locks", "sync_marks", "runs")
            for one in strengths
        ),
        "UPDATE ops.room_locks SET name = name",
        "DELETE FROM ops.room_locks",
    ]
    for attempt in attempts:
        with session(open_room, login) as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(attempt.encode())


def test_reader_with_everything_open_holds_up_no_work(open_room: Settings, new_login: Login) -> None:
    with psycopg.connect(open_room.ops_url) as db:
        tables = [name for (name,) in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ops'").fetchall()]
    reads = [f"SELECT * FROM ops.{table}" for table in tables if table != "step_results"]
    with session(open_room, new_login("superset_ro"), *reads):
        assert one_cycle(open_room)
        assert upgrade(open_room) == head()


def test_writer_changes_no_lock(settings: Settings) -> None:
    engine = connect(settings, application="test")
    for forbidden in ("DELETE FROM ops.room_locks", "INSERT INTO ops.room_locks VALUES ('mine')"):
        with engine.connect() as db, pytest.raises(Exception, match="permission denied"):
            db.execute(text(forbidden))
    engine.dispose()


def test_upgrade_that_a_reader_holds_up_ends_in_time_and_names_it(
    empty_database: str, settings: Settings, new_login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    engine = create_engine(driver_url(empty_database))
    with engine.begin() as db:
        db.execute(text("CREATE SCHEMA ops AUTHORIZATION ops_owner"))
        db.execute(text("SET LOCAL ROLE ops_owner"))
        command.upgrade(alembic_config(db), "0006")
    monkeypatch.setattr(migrate, "TABLE_SECONDS", 0.5)
    login = new_login("superset_ro")
    with session(room, login, "SELECT * FROM ops.runs") as reader:
        with pytest.raises(OpsError) as caught:
            upgrade(room)
        said, pid = str(caught.value), reader.info.backend_pid
        assert f"role '{login}' (application \"eve's tool\", pid {pid}) holds a lock" in said
        assert f"SELECT pg_terminate_backend({pid})" in said
        with engine.connect() as db:
            assert db.scalar(text("SELECT version_num FROM ops.alembic_version")) == "0006"
    engine.dispose()
    assert upgrade(room) == head()


def test_upgrade_waits_for_another_one_and_then_names_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "UPGRADE_SECONDS", 0.5)
    with closing(psycopg.connect(settings.ops_url, application_name="ops migrate")) as other:
        other.execute("LOCK TABLE ops.alembic_version IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(OpsError, match=rf"'ops migrate', pid {other.info.backend_pid}\) holds a lock"):
            upgrade(settings)
        monkeypatch.setattr(migrate, "UPGRADE_SECONDS", 60)
        threading.Timer(0.3, other.rollback).start()
        assert upgrade(settings) == head()


def test_first_upgrades_of_a_server_at_once_both_end_well() -> None:
    with short_folder() as folder, running(folder) as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            for name in ("one", "two"):
                db.execute(f"CREATE DATABASE {name}".encode())
        names = ["one", "one", "two", "two"]  # roles are the server's, schemas the database's
        rooms = [Settings(home=folder, database_url=SecretStr(url.format(database=name))) for name in names]
        # processes, for Alembic knows one migration of its own at a time
        with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
            assert list(pool.map(upgrade, rooms)) == [head()] * 4


def test_schema_of_another_owner_is_refused(empty_database: str, settings: Settings, new_login: Login) -> None:
    login = new_login()
    with psycopg.connect(empty_database) as db:
        db.execute(f'CREATE SCHEMA ops AUTHORIZATION "{login}"'.encode())
    with pytest.raises(OpsError, match=f"belongs to role '{login}'"):
        upgrade(settings.model_copy(update={"database_url": SecretStr(empty_database)}))


HOLD = "SELECT * FROM ops.room_locks WHERE name = '{}' FOR UPDATE"
AGE = "UPDATE ops.sync_marks SET updated_at = now() - interval '75 s'"


def test_who_holds_the_alerters_lock_is_named_by_role_application_and_pid(
    open_room: Settings, new_login: Login
) -> None:
    assert one_cycle(open_room)
    assert explain_silence(open_room, "alerter") is None
    login = new_login("ops_writer")
    with session(open_room, login, HOLD.format("alerter")) as holder, psycopg.connect(open_room.ops_url) as db:
        db.execute(AGE.encode())
        db.commit()
        assert not one_cycle(open_room)
        why, pid = explain_silence(open_room, "alerter"), holder.info.backend_pid
        assert why is not None
        assert why.found.startswith("has not looked at the rules for 7")
        assert why.found.endswith(f"s; role '{login}' (application \"eve's tool\", pid {pid}) holds the lock alerter")
        assert why.advice == f"let that session end, or end it: SELECT pg_terminate_backend({pid});"
    assert one_cycle(open_room)


def test_who_holds_up_the_totals_is_named(open_room: Settings, new_login: Login) -> None:
    engine = connect(open_room, application="sync")
    with psycopg.connect(open_room.ops_url, autocommit=True) as db:
        db.execute("INSERT INTO ops.sync_marks SELECT name, now(), now() FROM unnest(ARRAY['sync', 'sweep']) name")
        assert not sync_is_current(open_room.ops_url)  # nobody ever added up
        with engine.begin() as ours:
            fold_deltas(ours)
        assert sync_is_current(open_room.ops_url)
        login = new_login("ops_writer")
        with session(open_room, login, HOLD.format("totals")):
            db.execute(f"{AGE} WHERE name = 'totals'".encode())
            with engine.begin() as ours:
                assert fold_deltas(ours) == 0
            assert not sync_is_current(open_room.ops_url)
            why = explain_silence(open_room, "sync")
            assert why is not None
            assert why.found.startswith("has not added up what was counted for 7")
            assert f"role '{login}'" in why.found
            assert "holds the lock totals" in why.found
    engine.dispose()


def test_who_keeps_a_session_of_the_room_waiting_is_named(open_room: Settings, new_login: Login) -> None:
    assert one_cycle(open_room)
    login = new_login("ops_writer")
    engine = connect(open_room, application="alerter", statement_seconds=5)
    with session(open_room, login, "UPDATE ops.sync_marks SET at = at WHERE name = 'alerts'") as holder:
        waiting = threading.Thread(target=lambda: Alerter(open_room)._cycle(engine, 0), daemon=True)
        waiting.start()
        deadline = time.monotonic() + 4
        found: list[Hindrance] = []
        while not found and time.monotonic() < deadline:
            with engine.connect() as db:
                found = [one for one in read_hindrances(db) if one.holder.pid == holder.info.backend_pid]
        assert [(one.part, one.holder.role) for one in found] == [("alerter", login)]
        assert "waits for" in found[0].what
        holder.rollback()
        waiting.join(5)
    engine.dispose()
