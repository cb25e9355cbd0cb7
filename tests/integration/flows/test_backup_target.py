"""Backups that are copied to a target: what is there, what is told, and what goes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest
import typer
from prefect import get_client
from prefect.logging.handlers import APILogHandler

from blocks.backup_target import BackupTarget
from cli import backups as command
from flows.backup.names import BackupName
from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import dry_run
from flows.nightly_backup import Night, nightly_backup
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_restore_drill import odoo_restore_drill
from flows.offsite.owner import FILE
from opsdb.errors import PreflightError, StepFailedError, UsageError
from opsdb.settings import Settings, load_settings
from tests.integration.blocks.refusing_stores import STUBBORN
from tests.integration.flows.targets import Bucket, copied
from tests.support.backups import make_backup
from tests.support.folders import files
from tests.support.picky_server import serving
from tests.support.picky_store import KEY_ID, SECRET, PickyStore
from tests.support.spellings import spellings
from tests.support.store_manners import Manners


def test_backup_is_copied_whole_and_told(
    database: str, folder: Path, target: Bucket, attachments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts: list[dict[str, Any]] = []
    monkeypatch.setattr(ActiveRun, "artifact", lambda _run, **columns: artifacts.append(columns))
    target.delete(f"odoo/{FILE}")  # nobody's yet
    result = odoo_db_backup(database, target=target.block)
    assert "room" in json.loads(target.read(f"odoo/{FILE}"))
    dump = Path(result["file"])
    assert len(copied(folder, dump.name)) == 4
    assert target.keys == copied(folder, dump.name)
    assert {key: target.read(key) for key in target.keys} == {
        f"odoo/{p.name}": p.read_bytes() for p in folder.iterdir()
    }
    url = f"s3://{target.bucket}/odoo/{dump.name}"
    told = result["target"]
    assert (told["block"], told["url"], told["files"], told["pruned"]) == (target.block, url, 4, [])
    assert told["proof"] == "md5, sha256"  # moto says the SHA-256 of what came in parts
    (link,) = (one for one in artifacts if one["kind"] == "link")
    assert (link["content_url"], link["sha256"], link["size_bytes"]) == (url, result["sha256"], result["size_bytes"])
    assert target.unfinished == []


@pytest.mark.gate
def test_old_copies_go_and_what_is_not_ours_stays(database: str, target: Bucket, folder: Path, tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    old = [target.put_copy(tmp_path / "made", database, now - timedelta(days=days)) for days in (9, 8)]
    young = target.put_copy(tmp_path / "made", database, now - timedelta(days=6))
    target.put_copy(tmp_path / "made", database, now - timedelta(days=5))
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


def test_missing_block_is_named(database: str) -> None:
    BackupTarget.register_type_and_schema()
    with pytest.raises(PreflightError, match="there is no Backup Target block 'not-there': make one"):
        odoo_db_backup(database, target="not-there")


def test_nightly_backup_hands_the_target_on(database: str, target: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []

    def start(night: Night, *_: object) -> UUID:
        started.append(night.parameters)
        return uuid4()

    monkeypatch.setattr("flows.nightly_backup._make_session", lambda *_: None)
    monkeypatch.setattr(Night, "start_try", start)
    for name in (target.block, ""):
        with pytest.raises(UsageError, match="a run in no lane cannot be postponed"):  # it would wait for its backup
            nightly_backup([database], target=name)
    assert [one.get("target") for one in started] == [target.block, None]


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
    assert [one.name for one in planned.steps][-4:] == ["prune", "upload", "prune target", "catch up"]
    assert planned.steps[-1].environment["TARGET_SECRET_ACCESS_KEY"] == "***"
    assert target.server.secret_access_key not in str(planned.steps)
    assert target.server.access_key_id not in str(planned.steps)
    assert target.keys == {"odoo/theirs"}
    assert not folder.exists()
    target.fill_in(bucket="not-there")
    planned = dry_run(odoo_db_backup, {"odoo_db": database, "target": target.block}, settings=load_settings())
    assert "bucket not-there at" in str(planned.error)


@pytest.mark.gate
def test_folder_on_another_disk_is_a_target_too(
    database: str, folder: Path, small_disk: Callable[[int], Path], block: Callable[[Path], str]
) -> None:
    disk = small_disk(32)
    name = block(disk)
    now = datetime.now(UTC).replace(microsecond=0)
    old, *_ = [make_backup(disk, database, now - timedelta(days=days)) for days in (90, 2, 1)]
    result = odoo_db_backup(database, target=name)
    dump = Path(result["file"])
    assert result["target"]["url"] == f"file://{disk}/{dump.name}"
    assert result["target"]["proof"] == "read back"
    assert result["target"]["pruned"] == [old.name]
    assert files(disk).keys() > files(folder).keys() | {FILE}
    shutil.rmtree(folder)
    assert odoo_restore_drill(database, target=name)["backup"] == dump.name


@pytest.mark.gate
@pytest.mark.usefixtures("attachments", "prefect_client")
@pytest.mark.parametrize(
    "manners", [STUBBORN, Manners(ignores=frozenset({"range"}))], ids=["refused", "ranges ignored"]
)
def test_store_that_refuses_much_keeps_whole_backups_and_gives_them_back(
    database: str, folder: Path, manners: Manners
) -> None:
    BackupTarget.register_type_and_schema()
    with serving(PickyStore(manners, path="/storage/v1/s3")) as there:
        keys: dict[str, Any] = {"access_key_id": KEY_ID, "secret_access_key": SECRET}
        address = f"http://127.0.0.1:{there.port}{there.path}"
        name = f"picky-{uuid4().hex}"
        BackupTarget(bucket=there.bucket, prefix="odoo", endpoint_url=address, **keys).save(name)
        result = odoo_db_backup(database, target=name)
        dump = Path(result["file"])
        assert result["target"]["proof"] == ("read back" if manners is STUBBORN else "sha256")
        assert result["target"]["url"] == f"s3://{there.bucket}/odoo/{dump.name}"
        kept = {key: one.body for key, one in there.objects.items() if not key.endswith(FILE)}
        assert kept == {f"odoo/{path.name}": path.read_bytes() for path in folder.iterdir()}
        shutil.rmtree(folder)
        assert odoo_restore_drill(database, target=name)["backup"] == dump.name


@pytest.mark.gate
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
                if b"flows.offsite.transfer" in path.read_bytes():
                    environments.append((path.parent / "environ").read_bytes())
        time.sleep(0.25)
    assert run.returncode == 0
    target.fill_in(bucket="not-there")
    with pytest.raises(StepFailedError):
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


@pytest.mark.gate
@patch.dict(os.environ)  # the command sets what leads to Prefect
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
    command.list_(target=target.block, check=True, as_json=True)
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
    with pytest.raises(typer.Exit):
        command.list_(database, target=target.block, check=True, as_json=True)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["good"], told["wrong"]) == (False, f"{name} is damaged: its sha256 differs")
    command.list_("other", target=target.block)
    assert f"-p target={target.block}" in capsys.readouterr().err
