"""Backups that are copied to a target: compared there, pruned there, and restored from there."""

from __future__ import annotations

import base64
import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest
from prefect import get_client
from prefect.logging.handlers import APILogHandler

from blocks.backup_target import BackupTarget
from cli import backups as command
from flows.backup_files import BackupName
from flows.dry_run import dry_run
from flows.nightly_backup import nightly_backup
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from flows.runbook import ActiveRun
from opsdb.errors import PreflightError, StepFailedError
from opsdb.settings import Settings, load_settings
from tests.bucket_server import BucketServer
from tests.integration.flows.conftest import names, wait_until
from tests.integration.flows.test_odoo_db_backup import content
from tests.integration.flows.test_odoo_db_restore import files
from tests.integration.flows.test_odoo_restore_drill import databases
from tests.tcp_proxy import TcpProxy
from tests.unit.flows.test_backup_files import make_backup

MEBIBYTE = 1024 * 1024


class Bucket:
    """A bucket and the block that leads to it."""

    def __init__(self, server: BucketServer, bucket: str, port: int) -> None:
        self.server = server
        self.bucket = bucket
        self.block = f"target-{uuid4().hex}"
        self.fill_in(endpoint_url=f"http://127.0.0.1:{port}")

    def fill_in(self, **fields: Any) -> None:
        filled: dict[str, Any] = {
            "bucket": self.bucket,
            "prefix": "odoo",
            "endpoint_url": self.server.url,
            "access_key_id": self.server.access_key_id,
            "secret_access_key": self.server.secret_access_key,
        }
        BackupTarget(**filled | fields).save(self.block, overwrite=True)

    def put(self, key: str, content: bytes = b"theirs") -> None:
        self.server.client().put_object(Bucket=self.bucket, Key=key, Body=content)

    def put_copy(self, folder: Path, database: str, created_at: datetime) -> str:
        """A copy that is good, made outside of the folder of backups. Returns the dump's name."""
        folder.mkdir(exist_ok=True)
        dump = make_backup(folder, database, created_at)
        for file in (dump, Path(f"{dump}.json")):
            self.put(f"odoo/{file.name}", file.read_bytes())
        return dump.name

    @property
    def keys(self) -> set[str]:
        found = self.server.client().list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {one["Key"] for one in found}

    @property
    def unfinished(self) -> list[str]:
        found = self.server.client().list_multipart_uploads(Bucket=self.bucket)
        return [one["Key"] for one in found.get("Uploads", [])]

    def read(self, key: str) -> bytes:
        return self.server.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()


@pytest.fixture
def line(buckets: BucketServer) -> Iterator[TcpProxy]:
    """The way to the bucket."""
    with TcpProxy(buckets.port) as proxy:
        yield proxy


@pytest.fixture
def target(prefect_client: object, buckets: BucketServer, bucket: str, line: TcpProxy) -> Bucket:
    BackupTarget.register_type_and_schema()
    return Bucket(buckets, bucket, line.port)


@pytest.fixture
def attachments(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A filestore that is sent in two parts."""
    folder = tmp_path / "filestore" / database
    folder.mkdir(parents=True)
    (folder / "large").write_bytes(random.Random(1).randbytes(20 * MEBIBYTE))
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(folder.parent))
    return folder


def copied(folder: Path, dump: str) -> set[str]:
    return {f"odoo/{path.name}" for path in folder.glob(f"{dump}*")}


def test_backup_is_copied_whole_and_told(
    database: str, folder: Path, target: Bucket, attachments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts: list[dict[str, Any]] = []
    monkeypatch.setattr(ActiveRun, "artifact", lambda _run, **columns: artifacts.append(columns))
    result = odoo_db_backup(database, target=target.block)
    dump = Path(result["file"])
    assert len(copied(folder, dump.name)) == 4
    assert target.keys == copied(folder, dump.name)
    assert {key: target.read(key) for key in target.keys} == {
        f"odoo/{p.name}": p.read_bytes() for p in folder.iterdir()
    }
    url = f"s3://{target.bucket}/odoo/{dump.name}"
    told = result["target"]
    assert (told["block"], told["url"], told["files"], told["pruned"]) == (target.block, url, 4, [])
    (link,) = (one for one in artifacts if one["kind"] == "link")
    assert (link["content_url"], link["sha256"], link["size_bytes"]) == (url, result["sha256"], result["size_bytes"])
    assert target.unfinished == []


def test_old_copies_go_and_what_is_not_ours_stays(database: str, target: Bucket, folder: Path, tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    old = [target.put_copy(tmp_path / "made", database, now - timedelta(days=days)) for days in (9, 8)]
    young = target.put_copy(tmp_path / "made", database, now - timedelta(days=6))
    target.put_copy(tmp_path / "made", f"{database}_prod", now - timedelta(days=90))
    without_manifest = BackupName(database, now - timedelta(days=95)).dump
    broken = BackupName(database, now - timedelta(days=96)).dump
    for key in (without_manifest, broken, f"{broken}.json", f"{database}.dump", "notes.txt", f"deep/{old[0]}"):
        target.put(f"odoo/{key}")
    target.put(f"elsewhere/{old[0]}")
    before = target.keys
    result = odoo_db_backup(database, retention_days=7, target=target.block)
    assert result["target"]["pruned"] == old
    gone = {f"odoo/{dump}{suffix}" for dump in old for suffix in ("", ".json")}
    assert target.keys == before - gone | copied(folder, Path(result["file"]).name)
    assert f"odoo/{young}" in target.keys


def test_cut_upload_fails_the_run_publishes_nothing_and_stops_no_clean_up_here(
    database: str, folder: Path, target: Bucket, attachments: Path, line: TcpProxy
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    old = make_backup(folder, database, datetime.now(UTC).replace(microsecond=0) - timedelta(days=90))
    line.cut_after = 12 * MEBIBYTE
    with pytest.raises(StepFailedError, match=f"bucket {target.bucket} at http.* does not answer"):
        odoo_db_backup(database, target=target.block)
    assert not old.exists()
    assert not any(key.endswith(".json") for key in target.keys)
    (first,) = (path for path in folder.glob("*.dump"))

    line.cut_after = None
    result = odoo_db_backup(database, target=target.block)
    assert target.keys == copied(folder, Path(result["file"]).name)  # what the cut one had sent is removed
    assert target.unfinished == []
    assert first.exists()


def test_byte_that_flipped_on_the_way_fails_the_run_and_leaves_nothing(
    database: str, folder: Path, target: Bucket, line: TcpProxy
) -> None:
    line.flip_at = MEBIBYTE
    with pytest.raises(StepFailedError, match="did not arrive as it was sent"):
        odoo_db_backup(database, target=target.block)
    assert target.keys == set()
    assert len(list(folder.glob("*.dump"))) == 1


@pytest.mark.usefixtures("attachments")
def test_killed_upload_publishes_nothing_and_the_next_one_cleans_up(
    database: str,
    folder: Path,
    target: Bucket,
    line: TcpProxy,
    start_flow: Callable[..., psutil.Popen],
) -> None:
    line.bytes_per_second = 4 * MEBIBYTE
    run = start_flow(database, target=target.block)
    wait_until(lambda: bool(target.unfinished))
    left = run.children(recursive=True)
    for process in [run, *left]:
        process.kill()
    run.wait(10)
    assert len(target.keys) == 2  # dump and roles
    assert not any(key.endswith(".json") for key in target.keys)
    line.bytes_per_second = None
    target.put(f"odoo/{BackupName(database, datetime(2026, 1, 1, tzinfo=UTC)).dump}")  # not sent from here
    foreign = target.keys - copied(folder, "")
    result = odoo_db_backup(database, target=target.block)
    assert target.keys == copied(folder, Path(result["file"]).name) | foreign
    assert target.unfinished == []


@pytest.mark.usefixtures("attachments")
def test_cancelled_upload_takes_back_what_it_had_sent(
    database: str, folder: Path, target: Bucket, line: TcpProxy, start_flow: Callable[..., psutil.Popen]
) -> None:
    line.bytes_per_second = MEBIBYTE
    run = start_flow(database, target=target.block)
    wait_until(lambda: bool(target.unfinished))
    run.send_signal(signal.SIGINT)
    started = time.monotonic()
    run.wait(30)
    assert time.monotonic() - started < 10
    assert target.keys == set()
    assert target.unfinished == []
    assert len(list(folder.glob("*.dump"))) == 1


@pytest.mark.parametrize("kind", [odoo_db_backup, nightly_backup])
def test_wrong_key_fails_before_anything_is_dumped(
    kind: Callable[..., object], database: str, folder: Path, target: Bucket
) -> None:
    target.fill_in(secret_access_key="wrong-word-that-nobody-may-see")
    with pytest.raises(PreflightError) as caught:
        kind([database] if kind is nightly_backup else database, target=target.block)
    said = str(caught.value)
    assert f"backup target {target.block}: bucket {target.bucket} at http" in said
    assert "correct access_key_id and secret_access_key" in said
    assert "wrong-word" not in said
    assert not list(folder.glob("*.dump*")) if folder.exists() else True


def test_target_that_is_away_stops_no_dump_and_fails_the_run(
    database: str, folder: Path, target: Bucket, line: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(ActiveRun, "event", lambda _run, message, **_: told.append(message))
    line.__exit__()
    with pytest.raises(StepFailedError, match="does not answer"):
        odoo_db_backup(database, target=target.block)
    assert len(list(folder.glob("*.dump"))) == 1
    assert any(f"backup target {target.block}: bucket {target.bucket}" in message for message in told)


def test_missing_block_is_named(database: str) -> None:
    BackupTarget.register_type_and_schema()
    with pytest.raises(PreflightError, match="there is no Backup Target block 'not-there': make one"):
        odoo_db_backup(database, target="not-there")


@pytest.fixture
def only_at_the_target(database: str, folder: Path, target: Bucket, attachments: Path) -> dict[str, Any]:
    """The result of a backup whose folder was lost after it was copied."""
    result: dict[str, Any] = odoo_db_backup(database, target=target.block)
    shutil.rmtree(folder)
    return result


def test_backup_that_is_only_at_the_target_is_restored(
    postgres: str, database: str, target: Bucket, tmp_path: Path, only_at_the_target: dict[str, Any]
) -> None:
    folder = Path(only_at_the_target["file"]).parent
    dump = Path(only_at_the_target["file"]).name
    with pytest.raises(PreflightError, match="holds no verified backup"):
        odoo_restore_drill(database)
    drilled = odoo_restore_drill(database, target=target.block)
    assert (drilled["backup"], drilled["rows_compared"]) == (dump, 30001)
    assert names(folder) == set()

    new = f"{database}_copy"
    odoo_db_restore(new, dump, filestore_dir=str(tmp_path / "new"), target=target.block)
    assert content(postgres.format(database=new)) == content(postgres.format(database=database))
    assert files(tmp_path / "new") == files(tmp_path / "filestore" / database)
    assert names(folder) == set()

    for file in (dump, f"{dump}.json"):
        (folder / file).write_bytes(target.read(f"odoo/{file}"))  # without its roles and filestore it is not whole
    planned = dry_run(odoo_restore_drill, {"odoo_db": database, "target": target.block}, settings=load_settings())
    assert (planned.error, "download" in [one.name for one in planned.steps]) == (None, True)
    assert names(folder) == {dump, f"{dump}.json"}


def test_damaged_copy_is_found_before_anything_is_restored(
    postgres: str, database: str, folder: Path, target: Bucket, only_at_the_target: dict[str, Any]
) -> None:
    key = f"odoo/{Path(only_at_the_target['file']).name}"
    damaged = bytearray(target.read(key))
    damaged[len(damaged) // 2] ^= 1
    target.put(key, bytes(damaged))
    before = databases(postgres)
    with pytest.raises(StepFailedError, match="the backup is damaged"):
        odoo_restore_drill(database, target=target.block)
    assert databases(postgres) == before
    assert names(folder) == set()
    target.put(key, bytes(damaged[:-1]))
    with pytest.raises(PreflightError, match="is not whole"):
        odoo_restore_drill(database, backup=key.removeprefix("odoo/"), target=target.block)


def test_local_backup_is_restored_without_asking_the_target(database: str, target: Bucket, line: TcpProxy) -> None:
    odoo_db_backup(database)
    line.__exit__()
    assert odoo_restore_drill(database, target=target.block)["rows_compared"] == 30001


@pytest.mark.usefixtures("only_at_the_target")
def test_what_a_killed_restore_had_fetched_goes_with_the_next_one(
    database: str,
    folder: Path,
    target: Bucket,
    line: TcpProxy,
    start_flow: Callable[..., psutil.Popen],
) -> None:
    line.flip_answers, line.bytes_per_second = True, 4 * MEBIBYTE
    run = start_flow(database, "odoo_restore_drill", target=target.block)
    wait_until(lambda: folder.exists() and bool(names(folder)))
    left = run.children(recursive=True)
    for process in [run, *left]:
        process.kill()
    run.wait(10)
    line.bytes_per_second = None
    assert len(names(folder)) == 1
    odoo_restore_drill(database, target=target.block)
    assert names(folder) == set()


def test_nightly_backup_hands_the_target_on(database: str, target: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []

    def start(parameters: dict[str, Any], **_: object) -> UUID:
        started.append(parameters)
        return uuid4()

    monkeypatch.setattr("flows.nightly_backup._make_session", lambda *_: None)
    monkeypatch.setattr("flows.nightly_backup._start", start)
    nightly_backup([database], target=target.block)
    assert [one["target"] for one in started] == [target.block]
    nightly_backup([database])
    assert "target" not in started[1]


def test_block_shows_no_key_to_who_may_read_it(target: Bucket) -> None:
    with get_client(sync_client=True) as client:
        shown = client.read_block_document_by_name(target.block, "backup-target", include_secrets=False)
    assert shown.data["bucket"] == target.bucket
    assert target.server.secret_access_key not in str(shown)
    assert target.server.access_key_id not in str(shown)


def test_dry_run_looks_and_changes_nothing(database: str, folder: Path, target: Bucket) -> None:
    target.put("odoo/theirs")
    planned = dry_run(odoo_db_backup, {"odoo_db": database, "target": target.block}, settings=load_settings())
    assert (planned.error, planned.warnings) == (None, [])
    assert [one.name for one in planned.steps if one.preflight] == ["preflight", "look at target"]
    assert [one.name for one in planned.steps][-3:] == ["prune", "upload", "prune target"]
    assert planned.steps[-1].environment["TARGET_SECRET_ACCESS_KEY"] == "***"
    assert target.server.secret_access_key not in str(planned.steps)
    assert target.server.access_key_id not in str(planned.steps)
    assert target.keys == {"odoo/theirs"}
    assert not folder.exists()
    target.fill_in(bucket="not-there")
    planned = dry_run(odoo_db_backup, {"odoo_db": database, "target": target.block}, settings=load_settings())
    assert "bucket not-there at" in str(planned.error)


@pytest.fixture
def block(prefect_client: object) -> Callable[[Path], str]:
    """Makes a block of a folder; returns its name."""
    BackupTarget.register_type_and_schema()

    def make(folder: Path) -> str:
        name = f"folder-{uuid4().hex}"
        BackupTarget(folder=str(folder)).save(name)
        return name

    return make


def test_folder_on_another_disk_is_a_target_too(
    database: str, folder: Path, small_disk: Callable[[int], Path], block: Callable[[Path], str]
) -> None:
    disk = small_disk(32)
    name = block(disk)
    old = make_backup(disk, database, datetime.now(UTC).replace(microsecond=0) - timedelta(days=90))
    result = odoo_db_backup(database, target=name)
    dump = Path(result["file"])
    assert result["target"]["url"] == f"file://{disk}/{dump.name}"
    assert result["target"]["pruned"] == [old.name]
    assert files(disk) == files(folder)
    shutil.rmtree(folder)
    assert odoo_restore_drill(database, target=name)["backup"] == dump.name


def test_folder_that_is_full_fails_the_run_and_keeps_nothing_of_it(
    database: str, folder: Path, small_disk: Callable[[int], Path], block: Callable[[Path], str]
) -> None:
    disk = small_disk(1)
    with pytest.raises(StepFailedError, match="make room there"):
        odoo_db_backup(database, target=block(disk))
    assert names(disk) == set()
    assert len(list(folder.glob("*.dump"))) == 1


def test_folder_that_is_read_only_or_gone_fails_before_anything_is_dumped(
    database: str, folder: Path, small_disk: Callable[[int], Path], block: Callable[[Path], str]
) -> None:
    disk = small_disk(1)
    name = block(disk)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=10)
    with pytest.raises(PreflightError, match=f"backup target {name}: {disk} cannot be written to"):
        odoo_db_backup(database, target=name)
    gone = block(disk.parent / "not-mounted")
    with pytest.raises(PreflightError, match="is the disk mounted"):
        odoo_db_backup(database, target=gone)
    assert not list(folder.glob("*.dump"))


def spellings(secret: str) -> list[bytes]:
    return [secret.encode(), base64.b64encode(secret.encode()), quote(secret, safe="").encode()]


def test_keys_are_nowhere_but_in_the_environment_of_the_steps(
    database: str, target: Bucket, tmp_path: Path, postgres: str, start_flow: Callable[..., psutil.Popen]
) -> None:
    seen: set[bytes] = set()
    environments: list[bytes] = []
    run = start_flow(database, target=target.block)
    while run.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it ended
                seen.add(path.read_bytes())
                if b"flows.transfer" in path.read_bytes():
                    environments.append((path.parent / "environ").read_bytes())
        time.sleep(0.1)
    assert run.returncode == 0
    target.fill_in(bucket="not-there")
    with pytest.raises(PreflightError):
        odoo_db_backup(database, target=target.block)
    APILogHandler().flush()

    secrets = [one for key in (target.server.access_key_id, target.server.secret_access_key) for one in spellings(key)]
    assert any(secrets[0] in one and secrets[3] in one for one in environments)  # it is the right thing to look for
    logs = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("upload" in path.name for path in logs)
    told = [path.read_bytes() for path in logs] + list(seen)
    with psycopg.connect(postgres.format(database="prefect_tests")) as db:
        for table in ("log", "flow_run", "task_run", "flow_run_state", "task_run_state", "artifact", "events"):
            rows = db.execute(f'SELECT "{table}"::text FROM "{table}"').fetchall()
            assert rows or table in ("artifact",), table
            told += [str(row).encode() for row in rows]
    assert [secret for secret in secrets if any(secret in text for text in told)] == []


def test_listing_asks_the_target_itself(
    database: str,
    target: Bucket,
    prefect_room: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = odoo_db_backup(database, target=target.block)
    name = Path(result["file"]).name
    shutil.rmtree(Path(result["file"]).parent)
    monkeypatch.setenv("OPS_HOME", str(prefect_room.home))
    monkeypatch.setenv("OPS_PREFECT_PORT", str(prefect_room.prefect_port))
    monkeypatch.delenv("OPS_DATABASE_URL")  # there is no record: the target alone tells
    command.backups(target=target.block, check=True, as_json=True)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["file"], told["path"], told["good"], told["bytes_checked"]) == (
        name,
        result["target"]["url"],
        True,
        True,
    )
    content = bytearray(target.read(f"odoo/{name}"))
    content[1000] ^= 1
    target.put(f"odoo/{name}", bytes(content))
    command.backups(database, target=target.block, check=True, as_json=True)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["good"], told["wrong"]) == (False, f"{name} is damaged: its sha256 differs")
    command.backups("other", target=target.block)
    assert f"-p target={target.block}" in capsys.readouterr().err
