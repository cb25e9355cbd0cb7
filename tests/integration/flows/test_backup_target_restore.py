"""Backups that are only at a target: fetched, compared and restored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.engine.dry_run import dry_run
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from flows.restore import restore as restoring
from opsdb.errors import PreflightError, StepFailedError
from opsdb.settings import load_settings
from tests.integration.flows.conftest import content
from tests.integration.flows.targets import MEBIBYTE, Bucket
from tests.support.folders import files, names
from tests.support.postgres import databases
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_for


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
    with pytest.raises(PreflightError, match=r"holds no backup of .* that can be restored"):
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


@pytest.mark.gate
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


@pytest.mark.gate
def test_copy_that_is_deleted_before_all_of_it_is_fetched_fails_the_run_and_leaves_nothing(
    database: str,
    folder: Path,
    target: Bucket,
    only_at_the_target: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = only_at_the_target["other_files"][-1]  # fetched last
    monkeypatch.setattr(restoring, "_drop_leftovers", lambda: target.delete(f"odoo/{lost}"))
    with pytest.raises(StepFailedError, match=f"{lost} is missing: the backup was deleted meanwhile"):
        odoo_db_restore(f"{database}_new", Path(only_at_the_target["file"]).name, target=target.block)
    assert names(folder) == set()


def test_local_backup_is_restored_without_asking_the_target(database: str, target: Bucket, line: TcpProxy) -> None:
    odoo_db_backup(database)
    line.__exit__()
    assert odoo_restore_drill(database, target=target.block)["rows_compared"] == 30001


@pytest.mark.usefixtures("only_at_the_target")
@pytest.mark.gate
def test_what_a_killed_restore_had_fetched_goes_with_the_next_one(
    database: str,
    folder: Path,
    target: Bucket,
    line: TcpProxy,
    start_flow: Callable[..., psutil.Popen],
) -> None:
    line.flip_answers, line.bytes_per_second = True, 4 * MEBIBYTE
    run = start_flow(database, "odoo_restore_drill", target=target.block)
    wait_for(lambda: folder.exists() and bool(names(folder)))
    left = run.children(recursive=True)
    for process in [run, *left]:
        process.kill()
    run.wait(10)
    line.bytes_per_second = None
    assert len(names(folder)) == 1
    odoo_restore_drill(database, target=target.block)
    assert names(folder) == set()
