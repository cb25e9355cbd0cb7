"""What is looked at of a filestore before a backup: the room that its archive may need, and what cannot be read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flows.backup import filestore as module
from flows.backup.filestore import check_filestore, estimate_filestore
from flows.backup.manifest import File, Manifest
from flows.backup.names import BackupName
from flows.engine.active_run import ActiveRun, activated
from opsdb.errors import PreflightError
from opsdb.record.entries import Entry
from opsdb.settings import Settings
from tests.support.backups import NOW, make_backup, manifest_at
from tests.support.other_user import NOBODY, as_nobody
from tests.support.programs import needs_root


@pytest.fixture
def filestore(tmp_path: Path) -> Path:
    """1,500 bytes in three files."""
    folder = tmp_path / "filestore" / "odoo"
    for name in ("ab/one", "ab/two", "cd/three"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 500)
    return folder


@pytest.fixture
def told(tmp_path: Path) -> Iterator[list[Entry]]:
    """What a run records, in whose room these filestores are."""
    found: list[Entry] = []
    settings = Settings(home=tmp_path / "home", filestore_dir=tmp_path / "filestore")
    with activated(ActiveRun(uuid4(), 1, settings, found.append, in_lane=False)):
        yield found


def with_archive(folder: Path, size_bytes: int) -> list[Manifest]:
    """What is known of a good backup with an archive of this size."""
    folder.mkdir()
    manifest = manifest_at(Path(f"{make_backup(folder, 'odoo', NOW)}.json"))
    assert manifest is not None
    archive = File(file=BackupName("odoo", NOW).filestore, size_bytes=size_bytes, sha256="0" * 64)
    return [manifest.model_copy(update={"filestore": archive})]


@pytest.mark.usefixtures("told")
def test_without_an_earlier_archive_all_files_are_counted_also_behind_links(filestore: Path) -> None:
    (filestore.parent / "large").write_bytes(bytes(100_000))
    (filestore / "ab" / "link").symlink_to(filestore.parent / "large")
    assert estimate_filestore(filestore, [], filestore.parent / "backups") == 101_500
    assert estimate_filestore(None, [], filestore.parent / "backups") == 0


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(("archive", "expected"), [(400, 600), (100_000, 1500)])
def test_earlier_archive_and_half_more_is_taken_where_the_files_are_not_less(
    filestore: Path, tmp_path: Path, archive: int, expected: int
) -> None:
    assert estimate_filestore(filestore, with_archive(tmp_path / "backups", archive), tmp_path / "backups") == expected


def test_counting_ends_in_time_and_says_so_where_nothing_else_is_known(
    filestore: Path, tmp_path: Path, told: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", -1)
    assert estimate_filestore(filestore, with_archive(tmp_path / "backups", 100_000), tmp_path / "backups") == 150_000
    assert told == []
    assert estimate_filestore(filestore, [], filestore.parent / "backups") == 0
    assert "more files than can be counted" in str(told)


@pytest.mark.usefixtures("told")
def test_what_cannot_be_archived_is_named_before_anything_starts(filestore: Path) -> None:
    os.mkfifo(filestore / "ab" / "pipe")
    for name in ("1", "2", "3"):
        (filestore / "cd" / name).symlink_to("/etc/passwd")
    said = f"{filestore}/ab/pipe is a named pipe, .*; {filestore}/cd/1 is a link to /etc/passwd, .*; and 1 more. Hint: "
    with pytest.raises(PreflightError, match=said):
        estimate_filestore(filestore, [], filestore.parent / "backups")


@needs_root
def test_filestore_that_our_user_may_not_enter_is_named() -> None:
    with tempfile.TemporaryDirectory() as passable:
        Path(passable).chmod(0o755)
        folder = Path(passable) / "closed" / "filestore" / "odoo"
        folder.mkdir(parents=True)
        settings = Settings(filestore_dir=folder.parent)
        for closed in (folder, folder.parent.parent):
            closed.chmod(0)
            with (
                as_nobody(),
                pytest.raises(PreflightError, match=f"{folder} .* user nobody may not enter.* {closed}. "),
            ):
                check_filestore(settings, "odoo")
            closed.chmod(0o755)
        with as_nobody():
            assert check_filestore(settings, "odoo") == folder


@needs_root
@pytest.mark.parametrize("linked", ["filestore", "filestore/odoo"])
def test_filestore_behind_a_link_of_a_user_is_refused_where_it_is_anothers(tmp_path: Path, linked: str) -> None:
    """Whoever may write to Odoo's folder could have a folder of root archived, and handed to them."""
    (tmp_path / "moved" / "odoo").mkdir(parents=True)
    leads_to = tmp_path / "moved" / "odoo" if linked.endswith("odoo") else tmp_path / "moved"
    (tmp_path / linked).parent.mkdir(exist_ok=True)
    (tmp_path / linked).symlink_to(leads_to)
    settings = Settings(
        home=tmp_path / "home", filestore_dir=tmp_path / "filestore", filestore_roots=(tmp_path / "moved",)
    )
    found = tmp_path / "moved" / "odoo"
    assert check_filestore(settings, "odoo") == found
    os.lchown(tmp_path / linked, NOBODY, NOBODY)
    said = (
        f"the filestore {tmp_path}/filestore/odoo .* leads to {found} of another user by {tmp_path / linked}, "
        f"a link of uid {NOBODY}. Hint: let root"
    )
    with pytest.raises(PreflightError, match=said):
        check_filestore(settings, "odoo")
    os.chown(found, NOBODY, NOBODY)
    assert check_filestore(settings, "odoo") == found
