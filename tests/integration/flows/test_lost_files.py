"""A backup whose dump is whole, and another of its files lost or damaged: what is restored of it, and what is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.backup import making as module
from flows.backup.repository import Backup
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from opsdb.errors import PreflightError, StepFailedError
from tests.integration.flows.conftest import content
from tests.integration.flows.targets import Bucket
from tests.support.backups import make_backup

SAID = {
    "globals": "the database is restored without the server's roles and tablespaces",
    "filestore": "the database is restored without its filestore (1 files)",
}


def spoil(path: Path, how: str) -> None:
    if how == "lost":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 16
        path.write_bytes(data)


def companion(dump: Path, which: str) -> Path:
    return next(path for path in dump.parent.iterdir() if path.name.startswith(f"{dump.name}.{which}"))


@pytest.mark.usefixtures("attachments")
def test_backup_without_its_roles_is_restored_and_says_what_is_not(
    postgres: str, database: str, told: list[str]
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    lost = companion(dump, "globals")
    spoil(lost, "lost")
    result = odoo_db_restore(f"{database}_new", dump.name)
    assert content(postgres.format(database=f"{database}_new")) == content(postgres.format(database=database))
    assert result["missing_files"] == [lost.name]
    packed = "the filestore (1 files) stays packed. Hint: filestore_dir=FOLDER unpacks it"
    assert (result["filestore"], result["not_restored"]) == (None, [packed])
    assert f"{lost} is missing or not whole: {SAID['globals']}, which it lists" in told
    assert f"not restored: {packed}" in told


@pytest.mark.gate
@pytest.mark.usefixtures("attachments")
@pytest.mark.parametrize(
    ("which", "how"), [("globals", "damaged"), ("globals", "lost"), ("filestore", "lost"), ("filestore", "damaged")]
)
def test_backup_with_a_whole_dump_is_drilled_and_says_what_is_missing(
    database: str, tmp_path: Path, told: list[str], which: str, how: str
) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    path = companion(dump, which)
    spoil(path, how)
    result = odoo_restore_drill(database)  # there is no better one
    assert (result["missing_files"], result["rows_compared"]) == ([path.name], 30001)
    assert [one for one in told if path.name in one and SAID[which] in one]
    if which == "filestore":
        assert result["attachments_compared"] is None
        told.clear()
        refused = PreflightError if how == "lost" else StepFailedError
        with pytest.raises(refused, match=f"{path.name} is (missing or not whole|not what was written)"):
            odoo_db_restore(f"{database}_new", dump.name, filestore_dir=str(tmp_path / "new"))
        assert not [one for one in told if SAID[which] in one]
        result = odoo_db_restore(f"{database}_new", dump.name)
        assert (result["missing_files"], result["not_restored"]) == ([path.name], [])


@pytest.mark.gate
def test_new_backup_with_a_damaged_file_fails_its_drill_and_deletes_no_older_one(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True, mode=0o700)
    old = make_backup(folder, database, datetime.now(UTC).replace(microsecond=0) - timedelta(days=90))
    record = module._record_files

    def record_and_damage(backup: Backup) -> None:
        record(backup)
        spoil(folder / backup.name.globals, "damaged")

    monkeypatch.setattr(module, "_record_files", record_and_damage)
    with pytest.raises(StepFailedError, match=r"the backup is damaged: .*\.globals\.sql is not what was written"):
        odoo_db_backup(database, restore_drill=True)
    assert old.exists()


@pytest.mark.gate
def test_dump_that_is_not_whole_is_refused_before_anything_starts(database: str) -> None:
    dump = Path(odoo_db_backup(database)["file"])
    dump.write_bytes(dump.read_bytes()[:-1])
    with pytest.raises(PreflightError, match=f"{dump} cannot be restored: {dump.name} does not have its "):
        odoo_restore_drill(database, dump.name)


@pytest.mark.gate
def test_copy_without_its_roles_is_fetched_where_there_is_no_better(
    database: str, target: Bucket, tmp_path: Path, told: list[str]
) -> None:
    dump = Path(odoo_db_backup(database, target=target.block)["file"])
    spoil(companion(dump, "globals"), "lost")
    result = odoo_restore_drill(database, dump.name, target=target.block)
    assert result["missing_files"] == []  # the copy is whole
    target.delete(f"odoo/{dump.name}.globals.sql")
    result = odoo_restore_drill(database, backup_dir=str(tmp_path / "empty"), target=target.block)
    assert result["missing_files"] == [f"{dump.name}.globals.sql"]
    assert [one for one in told if SAID["globals"] in one]
