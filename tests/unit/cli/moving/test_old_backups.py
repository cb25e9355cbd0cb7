"""Old backups of a room are deleted once a new one is there, and nothing else is."""

from __future__ import annotations

import io
import os
import re
import socket
import time
from pathlib import Path
from typing import IO

import pytest

from cli.moving import sealed
from cli.moving.archive import PARTS, write_archive
from cli.moving.old_backups import delete_old, new_name
from opsdb.errors import OpsError
from tests.unit.cli.moving.test_archive import PASSPHRASE, manifest_of

HOME = Path("/opt/ops/.ops")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "COST", 2**4)


def backup_of(folder: Path, day: str, *, home: Path = HOME, passphrase: str = PASSPHRASE) -> Path:
    path = folder / re.sub(r"\d{8}T", f"{day}T", new_name())
    files: dict[str, IO[bytes]] = {name: io.BytesIO(b"x") for name in PARTS}
    manifest = manifest_of(files, host=socket.gethostname(), home=str(home))
    write_archive(path, passphrase, manifest, files)
    return path


def kept(made: Path, keep: int) -> list[Path]:
    return delete_old(made, PASSPHRASE, home=HOME, keep=keep)


def test_newest_stay_and_other_files_are_left_alone(tmp_path: Path) -> None:
    old = [backup_of(tmp_path, f"2026010{day}") for day in range(1, 5)]
    others = [
        backup_of(tmp_path, "20250101", home=Path("/opt/other/.ops")),
        backup_of(tmp_path, "20250102", passphrase="of somebody else"),
        tmp_path / "room-other-host-20250101T000000Z.sealed",
        tmp_path / "room.sealed",
    ]
    for one in others[2:]:
        one.touch()
    link = tmp_path / re.sub(r"\d{8}T", "20240102T", new_name())
    link.symlink_to(old[0])
    made = backup_of(tmp_path, "20260105")
    assert kept(made, 3) == [old[1], old[0]]
    assert {*old[2:], *others, made} <= set(tmp_path.iterdir())
    assert not {*old[:2]} & set(tmp_path.iterdir())
    assert kept(made, 3) == []


def test_new_backup_stays_though_the_clock_was_ahead_before(tmp_path: Path) -> None:
    ahead, made = backup_of(tmp_path, "20990101"), backup_of(tmp_path, "20260105")
    assert kept(made, 1) == [ahead]
    assert made.exists()


def test_what_a_killed_backup_left_is_deleted_after_a_day(tmp_path: Path) -> None:
    left, now = tmp_path / f".{new_name()}.77.partial", tmp_path / f".{new_name()}.78.partial"
    for file in (left, now):
        file.touch()
    os.utime(left, (time.time() - 90_000,) * 2)
    assert kept(tmp_path / "made.sealed", 1) == []
    assert [one.name for one in tmp_path.iterdir()] == [now.name]


def test_folder_that_cannot_be_cleaned_is_named_though_the_backup_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path, *, missing_ok: bool) -> None:
        raise PermissionError(1, "Operation not permitted")

    old, made = backup_of(tmp_path, "20260101"), backup_of(tmp_path, "20260102")
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OpsError, match=rf"{made} is good, but old ones could not be deleted: Operation not permitted"):
        kept(made, 1)
    assert old.exists()
