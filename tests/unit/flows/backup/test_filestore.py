"""The room that the archive of a filestore may need."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from flows.backup import filestore as module
from flows.backup.filestore import estimate_filestore
from flows.backup.manifest import File, Manifest
from flows.backup.names import BackupName
from flows.engine.active_run import ActiveRun, activated
from opsdb.record.entries import Entry
from opsdb.settings import Settings
from tests.support.backups import NOW, make_backup, manifest_at


@pytest.fixture
def filestore(tmp_path: Path) -> Path:
    """1,500 bytes in three files."""
    folder = tmp_path / "filestore"
    for name in ("ab/one", "ab/two", "cd/three"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 500)
    return folder


def with_archive(folder: Path, size_bytes: int) -> list[Manifest]:
    """What is known of a good backup with an archive of this size."""
    folder.mkdir()
    manifest = manifest_at(Path(f"{make_backup(folder, 'odoo', NOW)}.json"))
    assert manifest is not None
    archive = File(file=BackupName("odoo", NOW).filestore, size_bytes=size_bytes, sha256="0" * 64)
    return [manifest.model_copy(update={"filestore": archive})]


def test_without_an_earlier_archive_all_files_are_counted_and_no_link_is_followed(
    filestore: Path, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(bytes(100_000))
    (filestore / "ab" / "link").symlink_to(tmp_path / "large")
    (filestore / "folder").symlink_to(tmp_path)
    assert 1500 <= estimate_filestore(filestore, []) < 2000
    assert estimate_filestore(None, []) == 0


@pytest.mark.parametrize(("archive", "expected"), [(400, 600), (100_000, 1500)])
def test_earlier_archive_and_half_more_is_taken_where_the_files_are_not_less(
    filestore: Path, tmp_path: Path, archive: int, expected: int
) -> None:
    assert estimate_filestore(filestore, with_archive(tmp_path / "backups", archive)) == expected


def test_counting_ends_in_time_and_says_so_where_nothing_else_is_known(
    filestore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COUNT_SECONDS", -1)
    told: list[Entry] = []
    with activated(ActiveRun(uuid4(), 1, Settings(), told.append, in_lane=False)):
        assert estimate_filestore(filestore, with_archive(tmp_path / "backups", 100_000)) == 150_000
        assert told == []
        assert estimate_filestore(filestore, []) == 0
    assert "more files than can be counted" in str(told)
