"""An archive gets its name when all of it was read again, and never that of another file."""

from __future__ import annotations

import errno
import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import pytest

from cli.moving import archive, sealed
from cli.moving.archive import PARTS, Manifest, describe_part, read_manifest, unpack_archive, write_archive
from opsdb.errors import OpsError, UsageError

PASSPHRASE = "correct horse battery staple"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "COST", 2**4)


@pytest.fixture
def files() -> dict[str, IO[bytes]]:
    return {name: io.BytesIO(f"what {name} holds ".encode() * 90_000) for name in PARTS}


def manifest_of(files: dict[str, IO[bytes]], **changes: Any) -> Manifest:
    versions = dict.fromkeys(("ops_version", "prefect_version", "server_version", "pg_dump_version"), "1.0")
    times = dict.fromkeys(("created_at", "ops_snapshot_at", "prefect_snapshot_at"), NOW)
    more = {"unfinished": {}, "entries": [], "left": {}, "environment": [], "database_bytes": 5, "room_ran": True}
    parts = [describe_part(name, file) for name, file in files.items()]
    given: dict[str, Any] = {"id": UUID(int=7), "host": "alpha", "home": "/opt", "schema_revision": "0001"}
    return Manifest(**{**given, **versions, **times, **more, "parts": parts, **changes})


def test_parts_come_back_and_the_file_is_closed_to_others(files: dict[str, IO[bytes]], tmp_path: Path) -> None:
    path, to = tmp_path / "room.sealed", tmp_path / "to"
    to.mkdir()
    made = manifest_of(files)
    write_archive(path, PASSPHRASE, made, files)
    assert ([one.name for one in tmp_path.iterdir() if one.is_file()], path.stat().st_mode & 0o777) == (
        ["room.sealed"],
        0o600,
    )
    with path.open("rb") as file:
        assert read_manifest(file, PASSPHRASE, name="it") == made
        file.seek(0)
        assert unpack_archive(file, PASSPHRASE, name="it", to=to) == made
    for name, content in files.items():
        content.seek(0)
        assert (to / name).read_bytes() == content.read()
        assert (to / name).stat().st_mode & 0o777 == 0o600


def test_archive_that_is_not_what_its_manifest_says_gets_no_name(files: dict[str, IO[bytes]], tmp_path: Path) -> None:
    made = manifest_of(files)
    made.parts[1].sha256 = "0" * 64
    with pytest.raises(UsageError, match=r"prefect\.dump is not what its manifest says"):
        write_archive(tmp_path / "room.sealed", PASSPHRASE, made, files)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hard_links", [True, False])
def test_file_of_that_name_stays(
    files: dict[str, IO[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    def link(_old: Path, _new: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not hard_links:
        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "room.sealed"
    write_archive(path, PASSPHRASE, manifest_of(files), files)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        write_archive(path, PASSPHRASE, manifest_of(files), files)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["room.sealed"]


def test_backup_whose_folder_is_not_on_the_disk_is_not_said_to_be_gone(
    files: dict[str, IO[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(archive, "_sync_folder", fails)
    with pytest.raises(OpsError, match=r"room\.sealed is whole, but its folder .*Input/output error"):
        write_archive(tmp_path / "room.sealed", PASSPHRASE, manifest_of(files), files)
    assert (tmp_path / "room.sealed").exists()


def test_disk_that_fails_is_named_and_nothing_is_left(
    files: dict[str, IO[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OpsError, match=r"room\.sealed could not be written: Input/output error"):
        write_archive(tmp_path / "room.sealed", PASSPHRASE, manifest_of(files), files)
    assert list(tmp_path.iterdir()) == []
