"""A place at a target belongs to one room: what another room may do there, and what not."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.variables import Variable

from blocks.backup_target import BackupTarget
from blocks.target_folder import FolderStore
from flows.backup.folder import Folder
from flows.backup.keyring import Keyring
from flows.backup.names import BackupName
from flows.engine.active_run import ActiveRun, activated
from flows.offsite import owner
from flows.offsite import target as module
from flows.offsite.owner import FILE, NotOursError, check_owner, read_owner, take_ownership
from flows.offsite.target import Target
from flows.offsite.transfer import main
from flows.restore.fetch import find_at_target
from opsdb.errors import PreflightError
from opsdb.room_identity import RoomId, room_id
from opsdb.settings import Settings
from tests.support.backups import NOW, make_backup
from tests.support.folders import names


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "_SETTLE_SECONDS", 0.0)


def a_run(*, plan: list[Any] | None = None) -> tuple[ActiveRun, list[Any]]:
    told: list[Any] = []
    return ActiveRun(uuid4(), 1, Settings(), told.append, in_lane=False, plan=plan), told


def test_first_room_has_the_place_for_good_and_a_killed_claim_is_none(there: Path) -> None:
    store = FolderStore(there)
    (there / f".{FILE}.partial").touch()
    take_ownership(store, "one")
    take_ownership(store, "one")
    found = read_owner(store)
    assert found is not None
    assert (found.room, names(there)) == ("one", {FILE})
    with pytest.raises(NotOursError, match=f"belongs to another room.*{FILE}.*if that room is gone, delete that file"):
        take_ownership(store, "two")
    assert check_owner(store, "one")


def test_room_that_moved_takes_its_place_along_and_the_old_one_is_told(there: Path) -> None:
    store = FolderStore(there)
    take_ownership(store, "old")
    assert not check_owner(store, "new", before=("older", "old"))
    take_ownership(store, "new", before=("older", "old"))
    found = read_owner(store)
    assert found is not None
    assert (found.room, names(there)) == ("new", {FILE})
    with pytest.raises(NotOursError, match=r"belongs to another room.*if this room was moved there, stop it here"):
        take_ownership(store, "old")
    with pytest.raises(NotOursError):
        take_ownership(store, "a copy to look at")
    assert check_owner(store, "new", before=("older", "old"))


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, RoomId("first")),
        ({"id": "new", "before": ["first"]}, RoomId("new", ("first",))),
        ({"id": "new"}, RoomId("new")),
        ({"id": "new", "before": [], "copy_of": "the room in /a"}, RoomId("new", copy_of="the room in /a")),
        ({"id": "new", "copy_of": 1}, RoomId("new")),
        ({"before": ["other"]}, RoomId("first")),
        ("somebody else's", RoomId("first")),
    ],
)
def test_id_is_that_of_the_last_move(variable: Any, found: RoomId) -> None:
    assert room_id(variable, otherwise="first") == found


def test_backups_of_one_room_that_claim_at_once_all_go_on(there: Path) -> None:
    together = threading.Barrier(4)

    def one(_number: int) -> None:
        together.wait()
        take_ownership(FolderStore(there), "ours")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [None] * 4
    assert names(there) == {FILE}


@pytest.mark.parametrize("written", [b"", b"\xff{", b"[]", b'{"room": "two"}'])
def test_claim_that_says_nothing_is_nobodys_leave(there: Path, written: bytes) -> None:
    (there / FILE).write_bytes(written)
    with pytest.raises(NotOursError, match="does not say which room"):
        take_ownership(FolderStore(there), "two")


@pytest.mark.parametrize("order", ["upload", "prune"])
def test_place_of_another_room_is_neither_sent_to_nor_cleared(here: Path, there: Path, order: str) -> None:
    dump = make_backup(here, "odoo", NOW)
    for days in (90, 80, 70, 60):
        make_backup(there, "odoo", NOW - timedelta(days=days))
    (there / f".{dump.name}.partial").touch()
    take_ownership(FolderStore(there), "theirs")
    before = names(there)
    environment = {
        "TARGET": json.dumps({"folder": str(there)}),
        "FOLDER": str(here),
        "BACKUP": dump.name,
        "KEYRING": "/none",
    }
    with pytest.raises(NotOursError):
        main(order, {**environment, "ROOM": "ours", "RETENTION_DAYS": "30"})
    assert names(there) == before
    main(order, {**environment, "ROOM": "theirs", "RETENTION_DAYS": "30"})
    assert names(there) != before


def test_copy_of_another_room_is_read_by_name_only_and_that_is_told(here: Path, there: Path) -> None:
    dump = make_backup(there, "odoo", NOW)
    take_ownership(FolderStore(there), "theirs")
    target = Target("far", "ours", FolderStore(there), Keyring(there))
    run, told = a_run()
    with activated(run):
        with pytest.raises(PreflightError, match=r"belongs to another room.*: name the backup that you want"):
            find_at_target(target, Folder(here), "odoo", None)
        found = find_at_target(target, Folder(here), "odoo", BackupName("odoo", NOW))
    assert found is not None
    assert found.name.dump == dump.name
    (event,) = told
    assert "belongs to another room" in event.message


@pytest.fixture
def block(there: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(store=lambda: FolderStore(there), _block_type_id="ours")
    monkeypatch.setattr(BackupTarget, "load", lambda _name: made)
    monkeypatch.setattr(Variable, "get", lambda _name: None)
    return made


@pytest.mark.usefixtures("block")
def test_what_is_wrong_with_the_place_is_told_and_an_error_in_a_dry_run_only(here: Path, there: Path) -> None:
    take_ownership(FolderStore(there), "theirs")
    for wrong in ("belongs to another room", "everybody may write"):
        run, told = a_run()
        with activated(run):
            assert module._find_target("far", Folder(here)).room == "ours"
        assert wrong in told[-1].message
        assert told[-1].level == "warning"
        dry, _ = a_run(plan=[])
        with activated(dry), pytest.raises(PreflightError, match=wrong):
            module._find_target("far", Folder(here))
        there.chmod(0o777)


@pytest.mark.usefixtures("block")
def test_place_that_hangs_holds_no_dump_up(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(FolderStore, "look", lambda _store: hangs.wait(30))
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    run, told = a_run()
    with activated(run):
        module._find_target("far", Folder(here))
    hangs.set()
    assert "did not answer within 0.1 s" in told[0].message


@pytest.mark.usefixtures("block")
def test_target_that_is_the_folder_itself_is_refused_and_one_on_its_disk_told(here: Path, there: Path) -> None:
    run, told = a_run()
    link = here / "link"
    link.symlink_to(there)
    with activated(run):
        with pytest.raises(PreflightError, match="is the folder of the backups itself"):
            module._find_target("far", Folder(link))
        module._find_target("far", Folder(here / "not" / "yet"))
    assert [one.level for one in told] == ["warning"]
    assert "is on the disk of" in told[0].message
