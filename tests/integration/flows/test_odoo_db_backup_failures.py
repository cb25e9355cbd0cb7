"""What goes wrong in mid-backup: nothing is published, and the earlier backups stay."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.backup import dump
from flows.backup import making as module
from flows.backup.database import Source, check_source
from flows.backup.folder import Folder
from flows.engine.dry_run import dry_run
from flows.odoo_db_backup import odoo_db_backup
from opsdb.errors import OpsError, PreflightError, StepFailedError
from opsdb.settings import load_settings
from tests.support.backups import make_backup
from tests.support.folders import names
from tests.support.tiers import in_soak
from tests.support.waiting import wait_for


def test_too_little_room_is_refused_before_the_dump(database: str, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(32)
    with pytest.raises(PreflightError, match="free, the dump may need"):
        odoo_db_backup(database, backup_dir=str(disk))
    assert names(disk) == set()


@pytest.mark.usefixtures("attachments")
def test_too_little_room_for_the_filestore_is_refused_before_the_dump(
    database: str, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(80)  # enough for the dump alone
    with pytest.raises(PreflightError, match=f"{disk} has .* the dump may need .*, the filestore may need 18 MB"):
        odoo_db_backup(database, backup_dir=str(disk))
    assert names(disk) == set()
    planned = dry_run(odoo_db_backup, {"odoo_db": database, "backup_dir": str(disk)}, settings=load_settings())
    assert "the filestore may need 18 MB" in str(planned.error)


def test_disk_full_in_mid_dump_leaves_the_previous_backup_alone(
    database: str, small_disk: Callable[[int], Path], stand_in: Callable[[str], Path]
) -> None:
    disk = small_disk(120)
    previous = make_backup(disk, database, datetime(2026, 1, 1, tzinfo=UTC))
    before = names(disk)
    stand_in('"$REAL" "$@"; head -c 300M /dev/zero')
    with pytest.raises(StepFailedError, match="No space left on device"):
        odoo_db_backup(database, backup_dir=str(disk))
    assert names(disk) == before
    assert previous.read_bytes() == b"dump"


@pytest.mark.parametrize("kept", ["700K", *in_soak(["0", "1000"])])
def test_truncated_dump_is_not_published(
    database: str, folder: Path, stand_in: Callable[[str], Path], kept: str
) -> None:
    odoo_db_backup(database)
    before = names(folder)
    stand_in(f'"$REAL" "$@" | head -c {kept}; exit 0')
    with pytest.raises(StepFailedError):
        odoo_db_backup(database)
    assert names(folder) == before


def test_dump_cut_before_its_last_bytes_still_lists_and_is_not_published(
    database: str, folder: Path, stand_in: Callable[[str], Path]
) -> None:
    stand_in('"$REAL" "$@" | head -c -1; exit 0')
    with pytest.raises(StepFailedError):
        odoo_db_backup(database)
    assert names(folder) == set()


def test_failed_pg_dump_is_not_published(database: str, folder: Path, stand_in: Callable[[str], Path]) -> None:
    stand_in('"$REAL" "$@"; echo "went wrong" >&2; exit 1')
    with pytest.raises(StepFailedError, match="went wrong"):
        odoo_db_backup(database)
    assert names(folder) == set()


def test_bit_that_flipped_on_disk_is_found(database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip = "printf '\\377' | dd of=\"$PARTIAL\" bs=1 seek=2000 conv=notrunc status=none\n"
    monkeypatch.setattr(dump, "VERIFY", flip + dump.VERIFY)
    with pytest.raises(StepFailedError, match="sha256 differs"):
        odoo_db_backup(database)
    assert names(folder) == set()


HANGS = '"$REAL" "$@" | head -c 100000; exec sleep 300'


def partials(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".*.partial") if path.stat().st_size > 0]


def test_killed_backup_leaves_nothing_published_and_the_next_one_cleans_up(
    database: str,
    folder: Path,
    stand_in: Callable[[str], Path],
    start_flow: Callable[[str], psutil.Popen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in(HANGS)
    run = start_flow(database)
    wait_for(lambda: bool(partials(folder)))
    left = run.children(recursive=True)
    try:
        run.kill()
        run.wait(10)
        assert {Path(name).suffix for name in names(folder)} == {".partial"}
        assert Folder(folder).backups(database) == []

        monkeypatch.delenv("OPS_PG_BIN")
        result = odoo_db_backup(database)  # the killed one's pg_dump is still alive
        assert any(process.is_running() for process in left)
        assert names(folder) == {Path(result["file"]).name, Path(result["manifest"]).name, *result["other_files"]}
    finally:
        for process in left:
            if process.is_running():
                process.kill()


@pytest.mark.gate
def test_interrupted_backup_removes_its_partial(
    database: str, folder: Path, stand_in: Callable[[str], Path], start_flow: Callable[[str], psutil.Popen]
) -> None:
    stand_in(HANGS)
    run = start_flow(database)
    wait_for(lambda: bool(partials(folder)))
    left = run.children(recursive=True)
    run.send_signal(signal.SIGINT)
    run.wait(30)
    assert names(folder) == set()
    assert [process for process in left if process.is_running()] == []


@pytest.mark.gate
def test_two_backups_at_once_both_succeed(
    database: str, folder: Path, tmp_path: Path, start_flow: Callable[[str], psutil.Popen]
) -> None:
    runs = [start_flow(database) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0], (tmp_path / "flow.log").read_text()
    assert [backup.verified for backup in Folder(folder).backups(database)] == [True, True]
    assert len(names(folder)) == 6


@pytest.mark.gate
def test_second_backup_of_one_second_waits_for_the_next(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = datetime(2026, 3, 1, 2, tzinfo=UTC)
    ticks = iter([first] * 4 + [first + timedelta(seconds=1)])  # one for the name, one or more to reserve it

    def with_ticks(*given: Any) -> Source:
        return replace(check_source(*given), clock=lambda: next(ticks))

    monkeypatch.setattr(module, "check_source", with_ticks)
    one, two = odoo_db_backup(database), odoo_db_backup(database)
    assert (Path(one["file"]).name, Path(two["file"]).name) == (
        f"{database}_20260301T020000Z.dump",
        f"{database}_20260301T020001Z.dump",
    )
    assert hashlib.sha256(Path(one["file"]).read_bytes()).hexdigest() == one["sha256"]


def test_failed_backup_prunes_nothing(database: str, folder: Path, stand_in: Callable[[str], Path]) -> None:
    folder.mkdir(parents=True, mode=0o700)
    for day in range(1, 6):
        make_backup(folder, database, datetime(2020, 1, day, tzinfo=UTC))
    before = names(folder)
    stand_in("exit 1")
    with pytest.raises(OpsError):
        odoo_db_backup(database, retention_days=1)
    assert names(folder) == before
