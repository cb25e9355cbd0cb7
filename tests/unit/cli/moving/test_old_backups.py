"""Old backups of a room are deleted once a new one is there, and nothing else is."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from cli.moving.old_backups import delete_old, new_name
from opsdb.errors import OpsError


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Backups of five days, the oldest first, in `tmp_path`."""
    found = [re.sub(r"\d{8}T", f"2026010{day}T", new_name()) for day in range(1, 6)]
    for name in reversed(found):
        (tmp_path / name).touch()
    return found


def test_newest_stay_and_other_files_are_left_alone(tmp_path: Path, names: list[str]) -> None:
    others = ["room-other-host-20250101T000000Z.sealed", "room.sealed", f"{names[0]}.txt", f"my-{names[0]}"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / re.sub(r"\d{8}T", "20240101T", names[0])).mkdir()  # a folder of that name
    (tmp_path / re.sub(r"\d{8}T", "20240102T", names[0])).symlink_to(tmp_path / names[0])
    assert [one.name for one in delete_old(tmp_path, keep=2)] == names[:3]
    assert {*names[3:], *others} <= {one.name for one in tmp_path.iterdir()}
    assert not set(names[:3]) & {one.name for one in tmp_path.iterdir()}
    assert delete_old(tmp_path, keep=2) == []


def test_what_a_killed_backup_left_is_deleted_after_a_day(tmp_path: Path) -> None:
    left, now = tmp_path / f".{new_name()}.77.partial", tmp_path / f".{new_name()}.78.partial"
    for file in (left, now):
        file.touch()
    os.utime(left, (time.time() - 90_000,) * 2)
    assert delete_old(tmp_path, keep=1) == []
    assert [one.name for one in tmp_path.iterdir()] == [now.name]


def test_folder_that_cannot_be_cleaned_is_named_though_the_backup_is_good(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path, *, missing_ok: bool) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OpsError, match=rf"the new backup is good.*{tmp_path}: Operation not permitted. Hint: "):
        delete_old(tmp_path, keep=1)
    assert len(list(tmp_path.iterdir())) == len(names)
