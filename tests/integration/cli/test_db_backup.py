"""`ops db backup` and `ops db restore` on real servers: what comes over, what is refused, what is ended midway."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg
import pytest

from cli.moving import archive, restore
from cli.moving.archive import Manifest
from deployments.room.postgres import EmbeddedPostgres
from deployments.room.report import only_supervisor
from deployments.room.restoring import check_whole, read_begun
from deployments.server import access
from flows.backup.keyring import room_keyring
from opsdb.errors import OpsError, UsageError
from opsdb.room_identity import VARIABLE
from opsdb.settings import Settings
from tests.support.cluster import copy_cluster
from tests.support.commands import Answer, run_ops
from tests.support.postgres import databases, running, short_folder
from tests.support.waiting import wait_for

PASSPHRASE = "correct horse battery staple"
PASSWORD = "a password of superset"
Where = Callable[[], Path]

TABLES = """
SELECT format('%I.%I', schemaname, tablename)
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
ROWS = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM {} t"


@dataclass(frozen=True)
class Host:
    """An OPS_HOME, and commands in it."""

    home: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    @property
    def env(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPS_", "PREFECT_", "PG"))}
        return {**clean, "COLUMNS": "250", "OPS_HOME": str(self.home), **self.more}

    def ops(self, *arguments: str) -> Answer:
        self.home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return run_ops(*arguments, env=self.env, cwd=self.home.parent)


@pytest.fixture(scope="module")
def passphrase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("kept") / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


def restored(host: Host, backup: Path, **options: Any) -> restore.Restored:
    given = {"replace": False, "take_over": True, **options}
    return restore.restore(host.settings, backup, PASSPHRASE, **given)


def contents(host: Host) -> dict[str, str]:
    """How many rows each table of a room has, with a hash of them; but of Prefect's variables, where its id stands."""
    found = {}
    with running(host.home) as url:
        for name in ("ops", "prefect"):
            with psycopg.connect(url.format(database=name)) as db:
                for (table,) in db.execute(TABLES).fetchall():
                    if table != "public.variable":
                        found[f"{name} {table}"] = str(db.execute(ROWS.format(table).encode()).fetchall()[0][0])
    return found


def schema(host: Host, database: str) -> str:
    """All objects of a database with their owners and rights, as pg_dump spells them."""
    with running(host.home) as url:
        command = [
            str(EmbeddedPostgres(host.home).programs / "pg_dump"),
            "--schema-only",
            url.format(database=database),
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return "\n".join(line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


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


def in_prefect(host: Host, query: str) -> list[tuple[Any, ...]]:
    with running(host.home) as url, psycopg.connect(url.format(database="prefect")) as db:
        return db.execute(query.encode()).fetchall()


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


class KilledError(BaseException):
    """Ends a restore as a signal would, at a point that a test chooses."""


STEPS = ("put_aside", "make_roles", "load", "settle", "upgrade_databases", "_place_files", "clear")


@pytest.mark.gate
@pytest.mark.parametrize(("step", "when"), [("put_aside", "before"), *((step, "after") for step in STEPS)])
def test_restore_that_is_ended_anywhere_is_finished_by_the_same_command(
    old: Host, new: Host, backup: Path, monkeypatch: pytest.MonkeyPatch, *, step: str, when: str
) -> None:
    restored(new, backup)  # what there was before
    (new.home / "secrets.json").write_text("of before")
    real = getattr(restore, step)

    def dies(*arguments: Any, **options: Any) -> None:
        if when == "after":
            real(*arguments, **options)
        raise KilledError

    monkeypatch.setattr(restore, step, dies)
    with pytest.raises(KilledError):
        restored(new, backup, replace=True)
    if not (step == "clear" and when == "after"):
        with pytest.raises(UsageError, match=r"restore of .*room\.sealed into .* is not over.*ops db restore"):
            check_whole(new.home)
        assert "is not over" in new.ops("up").refused(2)
        with pytest.raises(UsageError, match="began with --take-over: repeat it so"):
            restored(new, backup, take_over=False)
        monkeypatch.setattr(restore, step, real)
        done = restored(new, backup)
        assert any(name.endswith("secrets.json") for name in done.put_aside), done.put_aside
    check_whole(new.home)
    (aside,) = new.home.glob("before-*")
    assert (aside / "secrets.json").read_text() == "of before"
    assert (new.home / "secrets.json").read_bytes() == (old.home / "secrets.json").read_bytes()
    assert not (new.home / "restoring").exists()
    assert contents(new) == contents(old)
    with running(new.home) as url:
        assert len([name for name in databases(url) if "_before_" in name]) == 2


@pytest.mark.gate
@pytest.mark.parametrize("words", ["verifying the backup", "loading the database ops", "loading the database prefect"])
def test_killed_process_of_a_restore_leaves_nothing_that_starts(
    old: Host, new: Host, backup: Path, passphrase: Path, words: str
) -> None:
    command = [sys.executable, "-m", "cli", "db", "restore", str(backup), "--take-over"]
    process = subprocess.Popen(
        [*command, "--passphrase-file", str(passphrase)],
        env=new.env,
        cwd=new.home.parent.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if words in line:
                break
        process.send_signal(signal.SIGKILL)
    begun = read_begun(new.home) is not None
    assert begun == (words != "verifying the backup")
    answer = new.ops("db", "restore", str(backup), "--take-over", "--passphrase-file", str(passphrase))
    assert ("resuming the interrupted restore" in answer.err) == begun
    answer.fine()
    assert contents(new) == contents(old)


def damaged(backup: Path, folder: Path, at: int) -> Path:
    data = bytearray(backup.read_bytes())
    data[at] ^= 1
    file = folder / "room.sealed"
    file.write_bytes(data)
    return file


def test_room_that_is_there_or_runs_and_files_that_cannot_be_trusted_are_refused_and_nothing_changes(
    old: Host, new: Host, backup: Path, passphrase: Path, tmp_path: Path
) -> None:
    by = ("--passphrase-file", str(passphrase))
    before = {path.name for path in old.home.iterdir()}
    line = old.ops("db", "restore", str(backup), *by).err.splitlines()[-1]
    assert "there is a room here already" in line
    assert "--replace" in line
    assert {path.name for path in old.home.iterdir()} == before
    with only_supervisor(old.home):
        assert "the room runs already" in old.ops("db", "restore", str(backup), *by).refused(2)
    other = tmp_path / "other"
    other.write_text("another passphrase of mine")
    other.chmod(0o600)
    assert "the passphrase does not open" in refusal(new, backup, other)
    assert "damaged or cut off" in refusal(new, damaged(backup, tmp_path, -5), passphrase)
    assert "is not a backup of a room" in refusal(new, other, passphrase)
    assert not (new.home / "restoring").exists()
    assert not (new.home / "secrets.json").exists()
    assert not (new.home / "postgres").exists()


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


def refusal(host: Host, file: Path, passphrase: Path) -> str:
    """The last line of a restore that is refused; a dry run refuses alike."""
    by = ("--passphrase-file", str(passphrase))
    answer, dry = host.ops("db", "restore", str(file), *by), host.ops("db", "restore", str(file), "--dry-run", *by)
    assert (answer.code, dry.code, answer.out) == (2, 2, ""), (answer, dry)
    assert answer.err.splitlines()[-1] == dry.err.splitlines()[-1]
    return answer.err.splitlines()[-1]


@pytest.mark.gate
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_revision": "9999"}, "which this version does not know: it is of a newer room"),
        ({"prefect_version": "99.1.0"}, "holds a database of Prefect 99.1.0"),
        ({"server_version": "99.1"}, "is of PostgreSQL 99.1, and the server here is"),
        ({"format": 2, "more": "than is known"}, "has format 2, and this version reads up to 1"),
        ({"parts": []}, "does not name the parts"),
    ],
)
def test_backup_of_a_newer_room_is_refused_by_name(
    new: Host, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, changes: dict[str, Any], words: str
) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    with backup.open("rb") as file:
        manifest = archive.unpack_archive(file, PASSPHRASE, name="it", to=parts)
    forged = manifest.model_dump(mode="json") | changes
    monkeypatch.setattr(Manifest, "model_dump_json", lambda _self, indent: json.dumps(forged))
    monkeypatch.setattr(archive, "verify_archive", lambda *_args, **_options: manifest)
    newer = tmp_path / "newer.sealed"
    if changes.get("parts") == []:
        manifest.parts.clear()
    files = {part.name: (parts / part.name).open("rb") for part in manifest.parts}
    archive.write_archive(newer, PASSPHRASE, manifest, files)
    for file in files.values():
        file.close()
    monkeypatch.undo()
    with pytest.raises(UsageError, match=words):
        restored(new, newer)
    assert read_begun(new.home) is None


@pytest.mark.gate
def test_backup_overwrites_nothing_and_a_name_that_cannot_be_is_refused(
    old: Host, backup: Path, passphrase: Path, tmp_path: Path
) -> None:
    by = ("--passphrase-file", str(passphrase))
    assert "already exists" in old.ops("db", "backup", "--to", str(backup), *by).refused(2)
    assert "there is no folder" in old.ops("db", "backup", "--to", str(tmp_path / "no" / "where"), *by).refused(2)
    assert "there is no folder" in old.ops("db", "backup", "--to", str(tmp_path / "nowhere"), *by).refused(2)
    assert not (tmp_path / "nowhere").exists()
    assert "the passphrase is missing" in old.ops("db", "backup", "--to", str(tmp_path / "x.sealed")).refused(2)
    assert "never started" in Host(tmp_path / "none").ops("db", "backup", "--to", str(tmp_path), *by).refused(3)
    assert "never started" in Host(tmp_path / "none").ops("db", "backup", *by).refused(3)
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.gate
def test_full_disk_leaves_nothing_of_a_backup_and_a_restore_can_be_repeated(
    old: Host, new: Host, backup: Path, passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Path(mkdtemp(prefix="disk", dir=new.home.parent.parent))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,mode=0700", "tmpfs", str(disk)], check=True)
    try:
        (disk / "filler").write_bytes(bytes(300 * 1024 * 1024 - 200_000))
        by = ("--passphrase-file", str(passphrase))
        line = old.ops("db", "backup", "--to", str(disk), *by).refused(2)
        assert f"{disk} has" in line
        with monkeypatch.context() as changed:  # it fills up after it was looked at
            changed.setattr("cli.moving.backup.check_space", lambda *_args: None)
            from cli.moving.backup import back_up

            changed.setenv("OPS_HOME", str(old.home))
            with pytest.raises(OpsError, match="No space left on device"):
                back_up(old.settings, disk / "room.sealed", PASSPHRASE)
        assert [path.name for path in disk.iterdir()] == ["filler"]
        crowded = Host(disk / ".ops")
        assert f"{disk}/.ops has" in crowded.ops("db", "restore", str(backup), *by).err.splitlines()[-1]
        with monkeypatch.context() as changed:
            changed.setattr("cli.moving.restore.check_space", lambda *_args: None)
            with pytest.raises(OpsError, match="No space left on device; nothing was changed"):
                restored(crowded, backup)
        assert not (crowded.home / "restoring").exists()
        (disk / "filler").unlink()
        restored(crowded, backup)
        assert (crowded.home / "secrets.json").read_bytes() == (old.home / "secrets.json").read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.gate
def test_killed_backup_leaves_no_file_that_looks_like_one(old: Host, passphrase: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli", "db", "backup", "--to", str(tmp_path), "--passphrase-file", str(passphrase)]
    with subprocess.Popen(command, env=old.env, cwd=tmp_path) as process:
        wait_for(lambda: any(tmp_path.iterdir()), seconds=60, what="the file is written")
        process.send_signal(signal.SIGKILL)
    assert all(path.name.startswith(".") and path.suffix == ".partial" for path in tmp_path.iterdir())
    assert not any("Temporary" in path.name or path.name.startswith("tmp") for path in old.home.iterdir())


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
