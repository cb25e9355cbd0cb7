from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from deployments.room.disk import check_disk, describe_full
from opsdb.errors import UsageError
from opsdb.settings import Settings

MEGABYTE = 1000 * 1000
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How much is free, for a test to say."""
    said = {"bytes": 0}
    usage = shutil.disk_usage

    def stand_in(path: Path) -> Usage:
        usage(path)  # raises for a folder that is not there
        return Usage(1000 * MEGABYTE, 1000 * MEGABYTE - said["bytes"], said["bytes"])

    monkeypatch.setattr(shutil, "disk_usage", stand_in)
    return said


@pytest.mark.parametrize(("made", "needed"), [(False, 150), (True, 20)])
def test_room_does_not_start_on_a_disk_that_it_would_fill(
    free: dict[str, int], tmp_path: Path, made: bool, needed: int
) -> None:
    home = tmp_path / "not" / "there"
    if made:
        (home / "postgres" / "data").mkdir(parents=True)
    free["bytes"] = needed * MEGABYTE
    check_disk(Settings(home=home))
    free["bytes"] -= 1
    with pytest.raises(UsageError, match=rf"{home} has .* free, the room needs {needed}\.0 MB to start: make room"):
        check_disk(Settings(home=home))


def test_full_disk_is_named_with_what_it_means(free: dict[str, int], tmp_path: Path) -> None:
    assert "nothing has to be restarted" in (describe_full(tmp_path) or "")
    free["bytes"] = MEGABYTE
    assert describe_full(tmp_path) is None
