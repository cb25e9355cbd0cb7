"""`ops db restore`: a room as it was, on another host."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psycopg
import pytest

from opsdb.room_identity import VARIABLE
from tests.integration.cli.moving.hosts import (
    PASSPHRASE,
    Host,
    contents,
    in_prefect,
    restored,
    schema,
)
from tests.support.postgres import running, short_folder


def test_room_comes_over_with_its_databases_logins_and_secrets(
    old: Host, new: Host, backup: Path, passphrase: Path
) -> None:
    answer = new.ops("db", "restore", str(backup), "--take-over", "--passphrase-file", str(passphrase))
    assert "ops up --detach" in answer.fine()
    assert PASSPHRASE not in answer.out + answer.err
    for name in ("secrets.json", "backup-keys/own", "journal/refused/one.jsonl", "copies/neutralize.sql", "ops.toml"):
        assert (new.home / name).read_bytes() == (old.home / name).read_bytes(), name
        assert (new.home / name).stat().st_mode & 0o077 == 0, name
    left = {path.name for path in new.home.iterdir()} - {"postgres.log"}  # of this test's own servers
    assert left == {"secrets.json", "backup-keys", "journal", "copies", "ops.toml", "postgres", "log", "room.lock"}
    before = contents(old)
    assert contents(new) == before
    assert before["ops ops.sessions"].startswith("1 ")
    for database in ("ops", "prefect"):
        assert schema(new, database) == schema(old, database)
    with running(new.home) as url, psycopg.connect(url.format(database="ops")) as db:
        roles: dict[str, int] = dict(
            db.execute("SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname !~ '^(pg_|ops_)'").fetchall()
        )
        assert roles == {"postgres": -1, "superset_ro": -1, "superset": 7, "by_name": -1}
        db.execute("SET SESSION AUTHORIZATION superset")
        assert db.execute("SELECT name FROM ops.sessions").fetchall() == [("Release 18.2",)]
        db.execute("RESET SESSION AUTHORIZATION")
        stored = "SELECT rolpassword, setconfig FROM pg_authid JOIN pg_db_role_setting ON setrole = oid"
        hashed = db.execute(f"{stored} WHERE rolname = 'superset'").fetchone()
    with running(old.home) as url, psycopg.connect(url.format(database="ops")) as db:
        assert db.execute(f"{stored} WHERE rolname = 'superset'").fetchone() == hashed
    assert json.loads(new.ops("db", "backup", "--passphrase-file", str(passphrase), "--json").fine())["verified"]


@pytest.mark.gate
@pytest.mark.parametrize("take_over", [True, False])
def test_room_that_takes_over_has_the_old_places_and_one_that_does_not_holds_still(
    old: Host, new: Host, backup: Path, take_over: bool
) -> None:
    restored(new, backup, take_over=take_over)
    (value,) = in_prefect(new, f"SELECT value FROM variable WHERE name = '{VARIABLE}'")[0]
    (first,) = in_prefect(old, "SELECT id::text FROM block_type WHERE slug = 'backup-target'") or [("none",)]
    assert value["id"] != first[0]
    assert value["before"] == ([first[0]] if take_over and first[0] != "none" else [])
    assert in_prefect(new, "SELECT is_paused FROM work_pool WHERE name = 'lane-a'") == [(not take_over,)]
    of_old = f"the room in {old.home} on host {socket.gethostname()}, as of "
    assert str(value.get("copy_of", of_old)).startswith(of_old)
    assert ("copy_of" in value) is not take_over
    again = Host(new.home.parent.parent / "again" / ".ops")
    file = new.home.parent / "again.sealed"
    kept = new.home.parent / "passphrase"
    kept.write_text(PASSPHRASE)
    kept.chmod(0o600)
    new.ops("db", "backup", "--to", str(file), "--passphrase-file", str(kept)).fine()
    restored(again, file)  # takes over: a copy becomes a room that works
    assert in_prefect(again, "SELECT is_paused FROM work_pool WHERE name = 'lane-a'") == [(False,)]
    (moved,) = in_prefect(again, f"SELECT value FROM variable WHERE name = '{VARIABLE}'")[0]
    assert moved == {"id": moved["id"], "before": [*value["before"], value["id"]]}


def test_dry_run_says_what_would_be_made_and_changes_nothing(
    old: Host, new: Host, backup: Path, passphrase: Path
) -> None:
    new.home.mkdir(mode=0o700, parents=True)
    dry = ("db", "restore", str(backup), "--dry-run", "--passphrase-file", str(passphrase))
    shown = new.ops(*dry).fine()
    assert "ops and prefect on the embedded PostgreSQL" in shown
    assert list(new.home.iterdir()) == []
    before = sorted(old.home.iterdir())
    document = json.loads(old.ops(*dry, "--replace", "--json").fine())
    assert document["databases"] == ["ops", "prefect"]
    assert any(name.startswith("the database ops_before_") for name in document["put_aside"])
    assert document["runs_here"] is False
    assert sorted(old.home.iterdir()) == before


@pytest.mark.gate
def test_older_record_is_brought_to_this_version(old: Host, new: Host, backup: Path, tmp_path: Path) -> None:
    restored(new, backup)
    with running(new.home) as url, psycopg.connect(url.format(database="ops")) as db:
        db.execute("DELETE FROM ops.room_locks WHERE name = 'prune'")
        db.execute("UPDATE ops.alembic_version SET version_num = '0021'")
    file, again = tmp_path / "older.sealed", Host(new.home.parent.parent / "again" / ".ops")
    kept = tmp_path / "passphrase"
    kept.write_text(PASSPHRASE)
    kept.chmod(0o600)
    new.ops("db", "backup", "--to", str(file), "--passphrase-file", str(kept)).fine()
    assert restored(again, file).manifest.schema_revision == "0021"
    with running(again.home) as url, psycopg.connect(url.format(database="ops")) as db:
        assert db.execute("SELECT count(*) FROM ops.room_locks WHERE name = 'prune'").fetchone() == (1,)


@pytest.mark.gate
def test_settings_of_the_new_host_stay(new: Host, backup: Path) -> None:
    new.home.mkdir(parents=True, mode=0o700)
    (new.home / "ops.toml").write_text('home = "."\nprefect_port = 4300\n')
    assert restored(new, backup).kept_settings
    assert "4300" in (new.home / "ops.toml").read_text()
    assert "4299" in (new.home / "ops.toml.before-move").read_text()


@pytest.mark.gate
def test_room_comes_onto_a_server_of_ones_own_whose_login_is_no_superuser_and_back(
    old: Host, backup: Path, passphrase: Path, tmp_path: Path
) -> None:
    by = ("--passphrase-file", str(passphrase))
    with short_folder() as folder, running(folder / "server") as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            db.execute("CREATE ROLE room LOGIN CREATEROLE CREATEDB")
            db.execute("CREATE DATABASE opsroom OWNER room TEMPLATE template0")
        own = url.format(database="opsroom").replace("postgres@", "room@")
        there = Host(folder / "there" / ".ops", {"OPS_DATABASE_URL": own})
        there.ops("db", "restore", str(backup), "--take-over", *by).fine()
        with psycopg.connect(own) as db:
            assert db.execute("SELECT name FROM ops.sessions").fetchall() == [("Release 18.2",)]
            owner = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'ops'"
            assert db.execute(owner).fetchone() == ("ops_owner",)
        file = tmp_path / "own.sealed"
        there.ops("db", "backup", "--to", str(file), *by).fine()
        answer = there.ops("db", "restore", str(file), "--replace", *by)
        assert "opsroom_before_" in answer.fine()
        embedded = Host(folder / "back" / ".ops")
        embedded.ops("db", "restore", str(file), "--take-over", *by).fine()
        assert contents(embedded) == contents(old)
