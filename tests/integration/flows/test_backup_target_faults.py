"""What goes wrong with a target: nothing half is published there, and the backup here stays good."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from flows.backup.names import BackupName
from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import dry_run
from flows.odoo_db_backup import odoo_db_backup
from flows.offsite import target as module
from flows.offsite.owner import FILE
from opsdb.errors import StepFailedError, StepTimeoutError
from opsdb.settings import load_settings
from tests.integration.flows.targets import MEBIBYTE, Bucket, copied
from tests.support.backups import make_backup
from tests.support.folders import names
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_for

pytestmark = pytest.mark.gate  # fault cases; the store itself is cut in tests/integration/blocks


def test_cut_upload_fails_the_run_publishes_nothing_and_stops_no_clean_up_here(
    database: str, folder: Path, target: Bucket, attachments: Path, line: TcpProxy
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    now = datetime.now(UTC).replace(microsecond=0)
    old, *recent = [make_backup(folder, database, now - timedelta(days=days)) for days in (90, 3, 2, 1)]
    line.cut_after = 12 * MEBIBYTE
    with pytest.raises(StepFailedError, match=f"bucket {target.bucket} at http.* does not answer"):
        odoo_db_backup(database, target=target.block)
    assert not old.exists()
    assert not any(key.endswith(".json") for key in target.keys)
    (first,) = {*folder.glob("*.dump")} - {*recent}

    line.cut_after = None
    result = odoo_db_backup(database, target=target.block)
    assert first.exists()
    missed = [first, *reversed(recent)]
    assert result["target"]["caught_up"] == [f"s3://{target.bucket}/odoo/{path.name}" for path in missed]
    assert target.keys == copied(folder, "")
    assert target.unfinished == []


@pytest.mark.usefixtures("attachments")
def test_upload_at_a_store_that_drips_is_ended_in_time_publishes_nothing_and_is_made_up_for(
    database: str, folder: Path, target: Bucket, line: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.bytes_per_second = 32 * 1024  # so the dump alone would take a minute
    with monkeypatch.context() as patch:
        patch.setattr(module, "UPLOAD_SECONDS", 20)
        started = time.monotonic()
        with pytest.raises(StepTimeoutError, match="ran longer than 20 s"):
            odoo_db_backup(database, target=target.block)
    assert time.monotonic() - started < 120
    assert line.passed > 1024  # something had been sent
    assert not any(key.endswith(".json") for key in target.keys)
    (first,) = folder.glob("*.dump")

    line.bytes_per_second = None
    result = odoo_db_backup(database, target=target.block)
    assert result["target"]["caught_up"] == [f"s3://{target.bucket}/odoo/{first.name}"]
    assert target.keys == copied(folder, "")
    assert target.unfinished == []


def test_earlier_backup_that_cannot_be_copied_is_told_and_the_new_one_is_there(
    database: str, folder: Path, target: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    now = datetime.now(UTC).replace(microsecond=0)
    damaged, older = [make_backup(folder, database, now - timedelta(days=days)) for days in (1, 2)]
    damaged.write_bytes(b"dumq")
    told: list[str] = []
    monkeypatch.setattr(ActiveRun, "event", lambda _run, message, **_: told.append(message))
    result = odoo_db_backup(database, target=target.block)
    assert result["target"]["caught_up"] == [f"s3://{target.bucket}/odoo/{older.name}"]
    assert target.keys == copied(folder, Path(result["file"]).name) | copied(folder, older.name)
    assert any("the new backup is there, but not all earlier ones" in one and damaged.name in one for one in told)


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
    wait_for(lambda: bool(target.unfinished))
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
    assert len(result["target"]["caught_up"]) == 1
    assert target.keys == copied(folder, "") | foreign
    assert target.unfinished == []


@pytest.mark.usefixtures("attachments")
def test_cancelled_upload_takes_back_what_it_had_sent(
    database: str, folder: Path, target: Bucket, line: TcpProxy, start_flow: Callable[..., psutil.Popen]
) -> None:
    line.bytes_per_second = MEBIBYTE
    run = start_flow(database, target=target.block)
    wait_for(lambda: bool(target.unfinished))
    run.send_signal(signal.SIGINT)
    started = time.monotonic()
    run.wait(30)
    assert time.monotonic() - started < 15
    assert target.keys == set()
    assert target.unfinished == []
    assert len(list(folder.glob("*.dump"))) == 1


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


def test_folder_that_is_full_fails_the_run_and_keeps_nothing_of_it(
    database: str, folder: Path, small_disk: Callable[[int], Path], block: Callable[[Path], str]
) -> None:
    disk = small_disk(1)
    with pytest.raises(StepFailedError, match="make room there"):
        odoo_db_backup(database, target=block(disk))
    assert names(disk) == {FILE}
    assert len(list(folder.glob("*.dump"))) == 1


def test_folder_that_is_read_only_or_gone_stops_no_dump_and_fails_the_run(
    database: str, folder: Path, small_disk: Callable[[int], Path], block: Callable[[Path], str]
) -> None:
    disk = small_disk(1)
    name = block(disk)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=10)
    with pytest.raises(StepFailedError, match="Read-only file system"):
        odoo_db_backup(database, target=name)
    gone = block(disk.parent / "not-mounted")
    with pytest.raises(StepFailedError, match="is the disk mounted"):
        odoo_db_backup(database, target=gone)
    assert len(list(folder.glob("*.dump"))) == 2


def test_wrong_key_stops_no_dump_fails_the_run_and_is_the_error_of_a_dry_run(
    database: str, folder: Path, target: Bucket
) -> None:
    target.fill_in(secret_access_key="wrong-word-that-nobody-may-see")
    with pytest.raises(StepFailedError) as caught:
        odoo_db_backup(database, target=target.block)
    assert len(list(folder.glob("*.dump"))) == 1
    planned = dry_run(odoo_db_backup, {"odoo_db": database, "target": target.block}, settings=load_settings())
    assert f"backup target {target.block}: bucket {target.bucket} at http" in str(planned.error)
    for said in (str(caught.value), str(planned.error)):
        assert "correct access_key_id and secret_access_key" in said
        assert "wrong-word" not in said
