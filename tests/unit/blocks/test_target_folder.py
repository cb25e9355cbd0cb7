"""A folder as a backup target."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from blocks import target_folder
from blocks.target_folder import FolderStore
from blocks.target_store import SameFolderError, TargetError


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "mnt"
    folder.mkdir()
    return folder


def make(folder: Path, content: bytes = b"content") -> tuple[Path, str]:
    file = folder / "some.dump"
    file.write_bytes(content)
    return file, hashlib.sha256(content).hexdigest()


def test_file_arrives_closed_to_others_and_comes_back(there: Path, tmp_path: Path) -> None:
    file, sha256 = make(tmp_path)
    store, told = FolderStore(there), list[int]()
    assert store.put(file, sha256=sha256, tell=told.append)
    assert [(path.name, path.stat().st_mode & 0o777) for path in there.iterdir()] == [("some.dump", 0o600)]
    assert told == [7]
    assert (store.sizes(), store.read("some.dump"), store.sha256("some.dump")) == ({"some.dump": 7}, b"content", sha256)
    store.get("some.dump", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"
    assert not store.put(file, sha256=sha256)
    store.delete("some.dump")
    store.delete("some.dump")
    assert store.sizes() == {}


def test_another_file_is_never_overwritten(there: Path, tmp_path: Path) -> None:
    file, sha256 = make(tmp_path)
    (there / "some.dump").write_bytes(b"other")
    with pytest.raises(TargetError, match="already exists with other content"):
        FolderStore(there).put(file, sha256=sha256)
    assert (there / "some.dump").read_bytes() == b"other"


def test_what_arrived_otherwise_gets_no_name(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, sha256 = make(tmp_path)

    def damaging(_source: Path, write: object, _tell: object) -> None:
        write(b"cOntent")  # type: ignore[operator]  # a fake

    monkeypatch.setattr(target_folder, "_copy", damaging)
    with pytest.raises(TargetError, match="did not arrive as it was sent"):
        FolderStore(there).put(file, sha256=sha256)
    assert list(there.iterdir()) == []


def test_what_killed_copies_left_goes_and_nothing_else(there: Path) -> None:
    for name in (".ours.partial", ".theirs.partial", "ours", ".ours", "ours.partial"):
        (there / name).touch()
    assert FolderStore(there).drop_unfinished(lambda name: name == "ours") == ["ours"]
    assert {path.name for path in there.iterdir()} == {".theirs.partial", "ours", ".ours", "ours.partial"}


def test_folder_that_is_not_there_is_never_made(tmp_path: Path) -> None:
    file, sha256 = make(tmp_path)
    store = FolderStore(tmp_path / "mnt")
    for work in (store.look, store.sizes, lambda: store.put(file, sha256=sha256)):
        with pytest.raises(TargetError, match="does not exist: is the disk mounted"):
            work()
    assert not (tmp_path / "mnt").exists()


def test_folder_that_everybody_writes_to_and_a_file_are_refused(there: Path, tmp_path: Path) -> None:
    there.chmod(0o777)
    file, sha256 = make(tmp_path)
    for work in (FolderStore(there).look, lambda: FolderStore(there).put(file, sha256=sha256)):
        with pytest.raises(TargetError, match="everybody may write"):
            work()
    assert list(there.iterdir()) == []
    with pytest.raises(TargetError, match="is not a folder"):
        FolderStore(file).look()


def test_folder_of_the_file_itself_holds_no_copy_of_it(there: Path, tmp_path: Path) -> None:
    file, sha256 = make(there)
    link = tmp_path / "link"
    link.symlink_to(there)
    with pytest.raises(TargetError, match="is the folder of the backups itself: choose one on another disk"):
        FolderStore(link).put(file, sha256=sha256)
    assert file.exists()


def test_folder_of_the_backups_is_known_before_anybody_made_it(tmp_path: Path) -> None:
    with pytest.raises(SameFolderError):
        FolderStore(tmp_path / "new").is_beside(tmp_path / "new" / ".." / "new")
    assert not FolderStore(tmp_path / "new").is_beside(tmp_path / "other")


def test_file_that_cannot_be_written_here_is_no_fault_of_the_target(there: Path, tmp_path: Path) -> None:
    (there / "dump").write_bytes(b"dump")
    with pytest.raises(TargetError, match="dump cannot be written on this host: No such file or directory") as missing:
        FolderStore(there).get("dump", tmp_path / "back" / "dump")
    with pytest.raises(TargetError, match="/dev/full cannot be written on this host: No space left on device") as full:
        FolderStore(there).get("dump", Path("/dev/full"))
    assert {one.value.advice for one in (missing, full)} == {"make room here, or name another backup_dir"}


def test_file_that_goes_while_it_is_listed_is_passed_over(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (there / "a").touch()
    (there / "b").touch()

    def scan(folder: Path) -> list[os.DirEntry[str]]:
        entries = list(REAL_SCAN(folder))
        (there / "a").unlink()
        return entries

    monkeypatch.setattr(os, "scandir", scan)
    assert FolderStore(there).sizes() == {"b": 0}


REAL_SCAN = os.scandir
