"""A room, its backup, and a host where none has been."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deployments.room.postgres import EmbeddedPostgres
from deployments.server import access
from flows.backup.keyring import room_keyring
from tests.integration.cli.moving.hosts import (
    PASSPHRASE,
    PASSWORD,
    Host,
)
from tests.support.cluster import copy_cluster
from tests.support.postgres import running, short_folder


@pytest.fixture(scope="session")
def passphrase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("kept") / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="session")
def old(shared_folder: Path) -> Iterator[Host]:
    """A room that does not run, with a login, a key, own files, and something in each database."""
    with short_folder() as folder:
        host = Host(folder / "old" / ".ops")
        copy_cluster(shared_folder, EmbeddedPostgres(host.home / "postgres"))
        access.make_secrets(host.settings)
        room_keyring(host.settings).make_own()
        for name in ("journal/refused/one.jsonl", "copies/neutralize.sql", "logs/run/step.log", "running/stale"):
            (host.home / name).parent.mkdir(parents=True, exist_ok=True)
            (host.home / name).write_text(f"{name}\n")
        (host.home / "ops.toml").write_text('home = "."\nprefect_port = 4299\n')
        with running(host.home) as url:
            with psycopg.connect(url.format(database="ops"), autocommit=True) as db:
                db.execute(f"CREATE ROLE superset LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 7 IN ROLE superset_ro")
                db.execute("ALTER ROLE superset SET default_transaction_read_only = on")
                db.execute('ALTER ROLE superset SET search_path = ops, "$user"')
                db.execute("COMMENT ON ROLE superset IS 'login made by the Ops Control Room'")
                db.execute("CREATE ROLE by_name; GRANT USAGE ON SCHEMA ops TO by_name")
                db.execute("CREATE ROLE of_odoo LOGIN PASSWORD 'not of the room'")
                db.execute("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'Release 18.2')")
            with psycopg.connect(url.format(database="prefect")) as db:
                db.execute("INSERT INTO variable (name, value) VALUES ('mine', '\"kept\"')")
                db.execute("UPDATE work_pool SET is_paused = false")
                db.execute("INSERT INTO work_pool (name, type, is_paused) VALUES ('lane-a', 'lane', false)")
        yield host


@pytest.fixture(scope="session")
def backup(old: Host, passphrase: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("elsewhere") / "room.sealed"
    answer = old.ops("db", "backup", "--to", str(file), "--passphrase-file", str(passphrase), "--json")
    document = json.loads(answer.fine())
    assert (document["file"], document["verified"], document["room_ran"]) == (str(file), True, False)
    assert document["ops_snapshot_at"] <= document["prefect_snapshot_at"]
    return file


@pytest.fixture
def new() -> Iterator[Host]:
    """A host where no room has been."""
    with short_folder() as folder:
        yield Host(folder / "new" / ".ops")
