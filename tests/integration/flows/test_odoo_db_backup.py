"""The backup runbook against a real PostgreSQL and a real Prefect server."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from prefect.exceptions import ParameterTypeError
from psycopg import sql

from flows.backup import making as module
from flows.backup.names import BackupName
from flows.backup.postgres import connect
from flows.engine.active_run import ActiveRun
from flows.odoo_db_backup import odoo_db_backup
from opsdb.errors import PreflightError, StepFailedError, UnknownDatabaseError
from opsdb.settings import load_settings
from tests.integration.flows.conftest import PROGRAMS, content
from tests.support.backups import make_backup
from tests.support.folders import names


def test_backup_restores_to_the_same_content(postgres: str, database: str, folder: Path) -> None:
    result = odoo_db_backup(database)
    dump, manifest = Path(result["file"]), json.loads(Path(result["manifest"]).read_text())
    assert names(folder) == {dump.name, f"{dump.name}.json", f"{dump.name}.globals.sql"}
    assert dump.stat().st_size == result["size_bytes"] == manifest["size_bytes"]
    assert hashlib.sha256(dump.read_bytes()).hexdigest() == result["sha256"] == manifest["sha256"]
    assert (result["tables"], result["pruned"]) == (2, [])
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    json.dumps(result)

    copy = f"copy_of_{database}"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{copy}" TEMPLATE template0')
    subprocess.run(
        [PROGRAMS.pg_restore, "--exit-on-error", "-d", postgres.format(database=copy), dump], check=True, timeout=60
    )
    assert content(postgres.format(database=copy)) == content(postgres.format(database=database))


def test_backup_shows_its_steps_and_records_its_files(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, str]] = []
    files: list[dict[str, object]] = []
    monkeypatch.setattr("flows.engine.step.StepStarted", lambda *_, name, command, **__: steps.append((name, command)))
    monkeypatch.setattr(ActiveRun, "artifact", lambda _run, **columns: files.append(columns))
    result = odoo_db_backup(database)
    assert [name for name, _ in steps] == [
        "preflight",
        "reserve",
        "snapshot",
        "pg_dump",
        "fingerprint",
        "globals",
        "verify",
        "publish",
        "prune",
    ]
    assert "--format=custom --no-password" in dict(steps)["pg_dump"]
    assert database not in dict(steps)["pg_dump"]  # values reach the shell as environment only
    dump, _globals, manifest = (
        one for one in files if str(one["storage_path"]).startswith(str(Path(result["file"]).parent))
    )
    assert (dump["storage_path"], dump["size_bytes"], dump["sha256"]) == (
        result["file"],
        result["size_bytes"],
        result["sha256"],
    )
    assert manifest["storage_path"] == result["manifest"]


def test_form_shows_descriptions_patterns_and_bounds() -> None:
    fields = odoo_db_backup.parameters.properties
    assert all(field["description"] for field in fields.values())
    assert fields["odoo_db"]["pattern"]
    assert (fields["retention_days"]["minimum"], fields["retention_days"]["maximum"]) == (1, 3650)
    assert fields["retention_days"]["default"] == 30


HOSTILE = ["", " ", "-Fp", "a b", "a\n", "a=b", "dbname=x", "postgresql://h/x", "a/b", "../a", "$(id)", "a;id", "a\0"]


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 64, "ß", "a\N{RIGHT-TO-LEFT OVERRIDE}b", "postgres", "template1"])
def test_hostile_database_name_is_refused(name: str) -> None:
    with pytest.raises(ParameterTypeError, match="odoo_db"):
        odoo_db_backup.validate_parameters({"odoo_db": name})


def test_refused_name_starts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_source", lambda *_: pytest.fail("it started"))
    with pytest.raises(ParameterTypeError, match="odoo_db"):
        odoo_db_backup("")
    assert not folder.exists()


@pytest.mark.parametrize("path", ["backups", "/tmp/../etc", "/tmp/..", "/tmp/./x", "/tmp//x", "/", "/tmp/a b", "/a\n"])
def test_odd_backup_folder_is_refused(path: str) -> None:
    with pytest.raises(ParameterTypeError, match="backup_dir"):
        odoo_db_backup.validate_parameters({"odoo_db": "odoo", "backup_dir": path})


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_odd_retention_is_refused(days: int) -> None:
    with pytest.raises(ParameterTypeError, match="retention_days"):
        odoo_db_backup.validate_parameters({"odoo_db": "odoo", "retention_days": days})


def test_missing_database_is_refused_with_those_that_exist(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.backup.database._SHOWN", 10_000)  # other tests leave databases
    monkeypatch.setattr("flows.backup.database.find_odoo_databases", lambda _url: None)  # Odoo's among them
    with pytest.raises(UnknownDatabaseError, match=f"no database '{database}x'.*There are: .*{database}\\b"):
        odoo_db_backup(f"{database}x")
    assert not folder.exists()


def test_names_of_other_databases_forge_no_line_of_an_error(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.backup.database._SHOWN", 10_000)  # other tests leave databases
    monkeypatch.setattr("flows.backup.database.find_odoo_databases", lambda _url: None)  # Odoo's among them
    name = f"{database}x\nrun \x1b[2K\u202e"
    create, drop = (sql.SQL(f"{verb} DATABASE {{}}").format(sql.Identifier(name)) for verb in ("CREATE", "DROP"))
    with connect(load_settings().odoo_url) as server:
        server.execute(create)
        try:
            with pytest.raises(PreflightError) as refused:
                odoo_db_backup(f"{database}x")
        finally:
            server.execute(drop)
    assert rf"{database}x\nrun \x1b[2K\u202e" in str(refused.value)
    assert str(refused.value).isprintable()
    assert not folder.exists()


def test_unreachable_server_is_a_preflight_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", f"postgresql://odoo:hidden-word@/odoo?host={tmp_path}")
    with pytest.raises(PreflightError, match="cannot connect") as caught:
        odoo_db_backup("odoo")
    assert "hidden-word" not in str(caught.value)


def test_missing_pg_dump_is_a_preflight_error(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_PG_BIN", str(tmp_path))
    with pytest.raises(PreflightError, match="no pg_dump"):
        odoo_db_backup(database)


def test_pg_dump_older_than_the_server_is_refused(
    database: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pg_dump", "pg_restore", "pg_dumpall"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 9.6.24'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("OPS_PG_BIN", str(tmp_path))
    with pytest.raises(PreflightError, match=r"older than the server, which is PostgreSQL 18.*9\.6\.24"):
        odoo_db_backup(database)
    assert not folder.exists()


def test_folder_that_everybody_writes_to_is_refused(database: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PreflightError, match="everybody may write"):
        odoo_db_backup(database, backup_dir=str(shared))


def test_backup_folder_that_is_a_file_is_refused(database: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match="backup folder"):
        odoo_db_backup(database, backup_dir=str(tmp_path / "file"))


def test_database_with_nothing_in_it_is_no_backup(empty_database: str, folder: Path) -> None:
    with pytest.raises(StepFailedError, match="holds nothing at all"):
        odoo_db_backup(empty_database.partition("?")[0].rpartition("/")[2])
    assert names(folder) == set()


def test_prune_takes_old_backups_of_this_database_only(database: str, folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    now = datetime.now(UTC).replace(microsecond=0)
    old = make_backup(folder, database, now - timedelta(days=8))
    young = make_backup(folder, database, now - timedelta(days=6))
    make_backup(folder, database, now - timedelta(days=5))
    others = [make_backup(folder, f"{database}_prod", now - timedelta(days=80))]
    others += [folder / name for name in ("notes.txt", f"{database}.dump", f"{database}_20200101T000000Z.dump.gz")]
    others += [folder / BackupName(database, now - timedelta(days=90)).dump]  # no manifest: perhaps not ours
    for other in others:
        other.touch()
    result = odoo_db_backup(database, retention_days=7)
    assert result["pruned"] == [old.name]
    assert not old.exists()
    assert not Path(f"{old}.json").exists()
    assert [path for path in [young, *others, Path(result["file"])] if not path.exists()] == []
