"""Two rooms that claim one place in the same moment: one has it, and the other neither sends nor deletes there."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.target_folder import FolderStore
from flows.offsite import owner
from flows.offsite.owner import FILE, NotOursError, read_owner, take_ownership
from flows.offsite.transfer import main
from tests.support.backups import NOW, make_backup
from tests.support.folders import names
from tests.support.target_race import ROOMS, claim_at_once, overtake


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "_SETTLE_SECONDS", 0.1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("at", [1, 2])  # the look for a claim, and the one before it is written
def test_room_that_is_overtaken_is_refused_and_sends_nothing(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    overtake(FolderStore, at, lambda: take_ownership(FolderStore(there), "theirs"), monkeypatch)
    environment = {
        "TARGET": json.dumps({"folder": str(there)}),
        "FOLDER": str(tmp_path),
        "BACKUP": dump.name,
        "KEYRING": "/none",
    }
    with pytest.raises(NotOursError, match="belongs to another room"):
        main("upload", {**environment, "ROOM": "ours"})
    found = read_owner(FolderStore(there))
    assert found is not None
    assert found.room == "theirs"
    assert names(there) == {FILE}


@pytest.mark.usefixtures("quick")
def test_of_two_rooms_that_claim_at_once_one_has_the_place(there: Path) -> None:
    for number in range(10):
        folder = there / str(number)
        folder.mkdir()
        claim_at_once(lambda folder=folder: FolderStore(folder))  # type: ignore[misc]
        assert names(folder) == {FILE}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("order", ["upload", "prune"])
def test_of_two_rooms_that_begin_at_once_one_sends_and_deletes(there: Path, tmp_path: Path, order: str) -> None:
    together = threading.Barrier(2)
    for days in (90, 80, 70, 60, 50):
        make_backup(there, "odoo", NOW - timedelta(days=days))
    before = names(there)

    def begin(room: str) -> set[str] | None:
        here = tmp_path / room
        here.mkdir()
        dump = make_backup(here, "odoo", NOW + timedelta(hours=ROOMS.index(room)))
        environment = {
            "TARGET": json.dumps({"folder": str(there)}),
            "FOLDER": str(here),
            "BACKUP": dump.name,
            "KEYRING": "/none",
        }
        # the second would delete all but three, the first one nothing
        environment["RETENTION_DAYS"] = ("300", "1")[ROOMS.index(room)]
        together.wait(10)
        try:
            main(order, {**environment, "ROOM": room})
        except NotOursError:
            return None
        return names(here)

    with ThreadPoolExecutor(2) as pool:
        ours, theirs = pool.map(begin, ROOMS)
    assert (ours is None) != (theirs is None)
    if order == "upload":
        assert names(there) == before | (ours or theirs or set()) | {FILE}
    else:
        assert len(before - names(there)) == (0 if theirs is None else 4)
