"""The backups that lie in a folder: decided without a database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from blocks.target_store import TargetError
from flows.backup.folder import Folder
from flows.backup.manifest import File
from flows.backup.names import BackupName
from flows.backup.repository import Backup
from flows.backup.retention import prunable
from opsdb.errors import PreflightError
from tests.support.backups import KEY, NOW, days_ago, dumps, make_backup, manifest_at
from tests.support.other_user import NOBODY, as_nobody
from tests.support.programs import needs_root


def test_list_backups_takes_exactly_one_database(tmp_path: Path) -> None:
    ours = make_backup(tmp_path, "odoo", days_ago(1))
    make_backup(tmp_path, "odoo_prod", days_ago(1))
    make_backup(tmp_path, "odoo_20250101T000000Z", days_ago(1))
    assert dumps(Folder(tmp_path).backups("odoo")) == [ours.name]
    assert Folder(tmp_path / "missing").backups("odoo") == []


def test_dump_without_a_manifest_is_listed_and_not_verified(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", days_ago(100))
    Path(f"{dump}.json").unlink()
    (found,) = Folder(tmp_path).backups("odoo")
    assert not found.verified
    assert prunable([found, *fresh(tmp_path)], now=NOW, retention_days=30) == []


def test_manifest_without_a_dump_is_no_backup(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", NOW).unlink()
    assert Folder(tmp_path).backups("odoo") == []


def test_dump_of_another_size_is_not_verified(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", NOW).write_bytes(b"dum")
    assert [backup.verified for backup in Folder(tmp_path).backups("odoo")] == [False]


def test_manifest_of_another_backup_does_not_count(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", days_ago(1))
    other = make_backup(tmp_path, "odoo_prod", days_ago(1))
    Path(f"{dump}.json").write_bytes(Path(f"{other}.json").read_bytes())
    assert [backup.manifest for backup in Folder(tmp_path).backups("odoo")] == [None]


def test_links_and_folders_with_our_names_are_left_alone(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    (tmp_path / BackupName("odoo", days_ago(1)).dump).symlink_to(dump)
    (tmp_path / BackupName("odoo", days_ago(2)).dump).mkdir()
    assert dumps(Folder(tmp_path).backups("odoo")) == [dump.name]


def fresh(folder: Path) -> list[Backup]:
    make_backup(folder, "odoo", NOW)
    return [backup for backup in Folder(folder).backups("odoo") if backup.name.created_at == NOW]


def test_manifest_that_names_files_of_another_backup_is_not_ours(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    manifest = manifest_at(Path(f"{dump}.json"))
    assert manifest is not None
    foreign = File(file="../../etc/passwd", size_bytes=1, sha256="0" * 64)
    Path(f"{dump}.json").write_text(manifest.model_copy(update={"globals": foreign}).text(KEY))
    assert [backup.manifest for backup in Folder(tmp_path).backups("odoo")] == [None]


def test_folder_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to(tmp_path / "gone")
    with pytest.raises(TargetError, match=f"{tmp_path}/file: Not a directory: name a folder"):
        Folder(tmp_path / "file").backups("odoo")
    for wrong in ("file", "lost", "file/below"):
        with pytest.raises(PreflightError, match=r"cannot make the backup folder .* is not a folder"):
            Folder(tmp_path / wrong).check()
    assert Folder(tmp_path / "new" / "below").check() == tmp_path
    assert Folder(tmp_path / "new" / "below").backups() == []


def test_folder_that_nobody_may_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(TargetError, match=f"{tmp_path}: Permission denied: give it to the room's user"):
        Folder(tmp_path).backups("odoo")


@needs_root
@pytest.mark.parametrize(
    ("closed", "mode", "right"),
    [
        ("in/backups", 0o500, "enter, read and write"),
        ("in/backups", 0o600, "enter, read and write"),
        ("in", 0, "enter"),
    ],
)
def test_folder_that_our_user_may_not_use_is_named_with_what_to_do(closed: str, mode: int, right: str) -> None:
    with tempfile.TemporaryDirectory() as passable:
        Path(passable).chmod(0o755)
        folder = Path(passable) / "in" / "backups"
        folder.mkdir(parents=True)
        for path in (folder, folder.parent):
            os.chown(path, NOBODY, NOBODY)
        (Path(passable) / closed).chmod(mode)
        said = f"{folder} cannot be used: user nobody may not {right} {passable}/{closed}. Hint: give user nobody that"
        with as_nobody(), pytest.raises(PreflightError, match=said):
            Folder(folder).check()
