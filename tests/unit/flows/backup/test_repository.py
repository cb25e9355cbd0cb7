"""Copies of backups: which are good, in which order files are sent, and which may go."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.target_folder import FolderStore
from blocks.target_store import TargetError, Tell, silent
from flows.backup.folder import Folder
from flows.backup.keyring import Key
from flows.backup.manifest import File
from flows.backup.names import BackupName, parse_name
from flows.backup.repository import Repository
from tests.support.backups import KEY, NOW, keyring_with, kinds, make_backup, manifest_at, unsigned_text, with_sum
from tests.support.folders import names


class NotingStore(FolderStore):
    """Notes what it is asked to do, and refuses what it is told to."""

    def __init__(self, folder: Path, *, refuse: Callable[[str], bool] = lambda _: False) -> None:
        super().__init__(folder)
        object.__setattr__(self, "noted", [])
        object.__setattr__(self, "refuse", refuse)

    noted: list[str]
    refuse: Callable[[str], bool]

    def put(self, file: Path, *, sha256: str, tell: Tell = silent) -> bool:
        self.noted.append(f"put {file.name}")
        if self.refuse(file.name):
            raise TargetError("cut", advice="try again")
        return super().put(file, sha256=sha256, tell=tell)

    def delete(self, name: str) -> None:
        self.noted.append(f"delete {name}")
        super().delete(name)


def whole_backup(folder: Path, created_at: datetime = NOW) -> BackupName:
    """One with roles and a filestore."""
    dump = make_backup(folder, "odoo", created_at)
    name = BackupName("odoo", created_at)
    for file in name.companions:
        (folder / file).write_bytes(b"dump")
    manifest = manifest_at(folder / name.manifest)
    assert manifest is not None
    one = File(file=name.globals, size_bytes=4, sha256=manifest.sha256)
    other = one.model_copy(update={"file": name.filestore})
    (folder / name.manifest).write_text(manifest.model_copy(update={"globals": one, "filestore": other}).text(KEY))
    assert dump.name == name.dump
    return name


def test_manifest_is_sent_last(here: Path, there: Path) -> None:
    name, store = whole_backup(here), NotingStore(there)
    size = Repository(store).receive(name, here, tell=lambda _: silent)
    assert store.noted == [f"put {file}" for file in (name.dump, name.globals, name.filestore, name.manifest)]
    assert size == sum(path.stat().st_size for path in here.iterdir())
    copy = Repository(store).find(name)
    assert copy is not None
    assert copy.verified


@pytest.mark.parametrize("at", range(4))
def test_what_was_sent_before_a_failure_is_removed_and_what_was_there_stays(here: Path, there: Path, at: int) -> None:
    name = whole_backup(here)
    files = (name.dump, name.globals, name.filestore, name.manifest)
    FolderStore(there).put(here / name.globals, sha256=read(here, name).sha256)
    with pytest.raises(TargetError, match="cut"):
        Repository(NotingStore(there, refuse=lambda file: file == files[at])).receive(name, here, tell=lambda _: silent)
    assert names(there) == {name.globals}
    Repository(FolderStore(there)).receive(name, here, tell=lambda _: silent)
    assert names(there) == set(files)


def read(folder: Path, name: BackupName) -> File:
    manifest = manifest_at(folder / name.manifest)
    assert manifest is not None
    assert manifest.globals is not None
    return manifest.globals


def test_copy_without_its_manifest_is_none_and_one_with_a_file_missing_is_not_good(here: Path, there: Path) -> None:
    name, store = whole_backup(here), FolderStore(there)
    Repository(store).receive(name, here, tell=lambda _: silent)
    (there / name.filestore).unlink()
    (copy,) = Repository(store).backups()
    assert not copy.verified
    (there / name.manifest).unlink()
    assert Repository(store).backups() == []
    assert Repository(store).find(name) is None


def test_backup_with_a_whole_dump_is_not_good_without_its_other_files_and_can_be_restored(here: Path) -> None:
    name = whole_backup(here)
    (here / name.globals).write_bytes(b"dum")
    (here / name.filestore).unlink()
    (backup,) = Folder(here).backups()
    assert (backup.verified, backup.restorable, backup.lost) == (False, True, [name.globals, name.filestore])
    assert backup.fault() == f"{name.globals} does not have its 4 bytes; the database can be restored without it"
    (here / name.globals).write_bytes(b"dumb")
    (backup,) = Folder(here).backups()
    assert backup.fault(read_bytes=True) == (
        f"{name.globals} is damaged: its sha256 differs; the database can be restored without it"
    )
    (here / name.dump).write_bytes(b"dum")
    (backup,) = Folder(here).backups()
    assert (backup.restorable, backup.fault()) == (False, f"{name.dump} does not have its 4 bytes")


def test_manifest_of_another_backup_or_broken_speaks_for_none(here: Path, there: Path) -> None:
    dump = make_backup(there, "odoo", NOW)
    later = BackupName("odoo", NOW + timedelta(hours=1))
    (there / later.dump).write_bytes(dump.read_bytes())
    (there / later.manifest).write_bytes(Path(f"{dump}.json").read_bytes())
    broken = BackupName("odoo", NOW + timedelta(hours=2))
    (there / broken.manifest).write_bytes(b"\xff{")
    assert [(copy.name.dump, copy.verified) for copy in Repository(FolderStore(there)).backups()] == [
        (dump.name, True),
        (later.dump, False),
        (broken.dump, False),
    ]
    newest = Repository(FolderStore(there)).best("odoo")
    assert newest is not None
    assert newest.name.dump == dump.name
    assert Repository(FolderStore(there)).prune(BackupName("odoo", NOW + timedelta(days=90)), retention_days=1) == []


class VanishingStore(FolderStore):
    """Another run prunes what is about to be read."""

    def read(self, name: str) -> bytes:
        self.delete(name)
        return super().read(name)


def test_copy_that_goes_while_it_is_listed_is_none(there: Path) -> None:
    dump = make_backup(there, "odoo", NOW)
    assert Repository(VanishingStore(there)).backups() == []
    make_backup(there, "odoo", NOW)
    assert Repository(VanishingStore(there)).best("odoo") is None
    assert dump.exists()


@pytest.mark.parametrize("database", ["odoo", "a.dump", "a.dump_20260101T000000Z", "x.json"])
def test_copies_are_of_exactly_their_database(there: Path, database: str) -> None:
    for one in (database, f"{database}_prod", f"{database}_20260101T000000Z"):
        make_backup(there, one, NOW)
    assert [copy.name.database for copy in Repository(FolderStore(there)).backups(database)] == [database]
    assert len(Repository(FolderStore(there)).backups()) == 3


def test_backup_whose_manifest_was_changed_is_not_copied(here: Path, there: Path) -> None:
    name = whole_backup(here)
    text = (here / name.manifest).read_text()
    (here / name.manifest).write_text(text.replace('"tables": 1', '"tables": 2'))
    with pytest.raises(TargetError, match="is not as it was written"):
        Repository(FolderStore(there)).receive(name, here, tell=lambda _: silent)
    assert names(there) == set()


def test_only_what_was_sent_from_here_and_has_no_manifest_is_cleared(here: Path, there: Path) -> None:
    ours = whole_backup(here)
    new = BackupName("odoo", NOW + timedelta(days=1))
    make_backup(here, "odoo", new.created_at)
    make_backup(here, "odoo_prod", NOW)
    theirs = BackupName("odoo", NOW - timedelta(days=1))
    done = make_backup(there, "odoo", NOW - timedelta(days=2)).name
    left = {ours.dump, ours.globals, f".{ours.filestore}.partial", f".{new.dump}.partial"}
    kept = {new.dump, theirs.dump, BackupName("odoo_prod", NOW).dump, f".{BackupName('odoo_prod', NOW).dump}.partial"}
    for file in left | kept:
        (there / file).touch()
    cleared = Repository(FolderStore(there)).clear_unfinished(here, keep=new)
    assert sorted(cleared) == sorted([ours.dump, ours.globals, ours.filestore, new.dump])
    assert names(there) == kept | {done, f"{done}.json"}


def test_missed_are_the_good_ones_that_the_place_lacks_and_would_keep_newest_first(here: Path, there: Path) -> None:
    def made(folder: Path, days: int, database: str = "odoo") -> Path:
        return make_backup(folder, database, NOW - timedelta(days=days))

    for days in (0, 1, 2, 9, 10, 40):
        made(here, days)
    made(here, 3).write_bytes(b"du")
    made(here, 4, "odoo_shop")
    Path(f"{made(here, 5)}.json").unlink()
    for days in (0, 2):
        made(there, days)
    made(there, 10).unlink()  # so that one is not whole
    left = Repository(FolderStore(there)).lacks(Folder(here), BackupName("odoo", NOW), retention_days=30)
    assert left == [BackupName("odoo", NOW - timedelta(days=days)) for days in (1, 9, 10)]
    left = Repository(FolderStore(there)).lacks(Folder(here), BackupName("odoo", NOW), retention_days=5)
    assert left == [BackupName("odoo", NOW - timedelta(days=1))]
    for name in left:
        Repository(FolderStore(there)).receive(name, here, tell=lambda _: silent)
    before = names(there)
    assert Repository(FolderStore(there)).prune(BackupName("odoo", NOW), retention_days=5) == [
        BackupName("odoo", NOW - timedelta(days=10)).dump
    ]
    assert before - names(there) == {BackupName("odoo", NOW - timedelta(days=10)).manifest}


def test_missed_ones_are_sent_however_old_while_the_place_holds_fewer_than_are_kept(here: Path, there: Path) -> None:
    for days in (0, 80, 90):
        make_backup(here, "odoo", NOW - timedelta(days=days))
    make_backup(there, "odoo", NOW)
    left = Repository(FolderStore(there)).lacks(Folder(here), BackupName("odoo", NOW), retention_days=1)
    assert left == [BackupName("odoo", NOW - timedelta(days=days)) for days in (80, 90)]


@settings(deadline=None)
@given(st.lists(kinds, min_size=1, max_size=10), st.integers(min_value=1, max_value=5), st.data())
def test_nights_never_lose_the_last_three_good_copies_nor_a_file_of_others(
    nights: list[str], days: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        store = NotingStore(there)
        strangers = {"odoo_2.dump", "notes", "odoo_20250101T000000Z.dump", "odoo_20250101T000001Z.dump.globals.sql"}
        for stranger in strangers:
            (there / stranger).write_text("theirs")
        other = make_backup(there, "odoo_shop", NOW - timedelta(days=300))
        now = NOW
        for kind in nights:
            now += timedelta(hours=data.draw(st.integers(min_value=-30, max_value=72)))  # clocks jump
            if (there / BackupName("odoo", now).dump).exists():
                continue
            dump = make_backup(there, "odoo", now)
            if kind == "damaged":
                dump.write_bytes(b"du")
            elif kind == "without manifest":
                Path(f"{dump}.json").unlink()
                strangers.add(dump.name)
                dump.write_text("theirs")
            good = [copy.name for copy in Repository(store).backups("odoo") if copy.verified]
            best = {one.dump for one in sorted(good, key=lambda one: one.created_at)[-3:]}
            gone = Repository(store).prune(BackupName("odoo", now), retention_days=days)
            assert not best & set(gone)
            assert len(best) == 3 or not gone
            assert all(
                parsed is not None and now - parsed.created_at > timedelta(days=days)
                for parsed in map(parse_name, gone)
            )
            assert all((there / one).exists() and (there / f"{one}.json").exists() for one in best)
        assert all((there / stranger).read_text() == "theirs" for stranger in strangers)
        assert other.exists()
        assert json.loads(Path(f"{other}.json").read_text())["database"] == "odoo_shop"


class SwellingStore(FolderStore):
    """Gives more than it listed."""

    def get(self, name: str, file: Path, *, tell: Tell = silent) -> None:
        with (self.folder / name).open("ab") as swollen:
            swollen.write(b"x" * 5_000_000)
        super().get(name, file, tell=tell)


def test_copy_that_swells_while_it_is_fetched_fills_no_disk(there: Path, here: Path) -> None:
    dump = make_backup(there, "odoo", NOW)
    repository = Repository(SwellingStore(there))
    (backup,) = repository.backups()
    with pytest.raises(TargetError, match=f"{dump.name} has more than the 4 bytes of its manifest"):
        repository.fetch(backup, here, tell=lambda _: silent)
    assert (here / dump.name).stat().st_size <= 2_000_000


@pytest.mark.parametrize("odd", ["link", "pipe"])
def test_copy_that_is_swapped_for_a_link_or_a_pipe_is_not_read(
    there: Path, here: Path, tmp_path: Path, odd: str
) -> None:
    dump = make_backup(there, "odoo", NOW)
    (backup,) = Repository(FolderStore(there)).backups()
    (tmp_path / "secret").write_text("mine")
    dump.unlink()
    if odd == "link":
        dump.symlink_to(tmp_path / "secret")
        with pytest.raises(TargetError, match=dump.name):
            backup.repository.fetch(backup, here, tell=lambda _: silent)
        assert not (here / dump.name).exists()
    else:
        os.mkfifo(dump)
        backup.repository.fetch(backup, here, tell=lambda _: silent)
        assert (here / dump.name).read_bytes() == b""
    assert backup.fault(read_bytes=True) is not None


def test_backups_of_others_drive_no_signed_one_out(tmp_path: Path, there: Path) -> None:
    keyring = keyring_with(tmp_path / "keys")
    ours = [make_backup(there, "odoo", NOW - timedelta(days=days)).name for days in (300, 200, 100)]
    for hours, text in enumerate((unsigned_text, unsigned_text, lambda one: one.text(Key(b"o" * 32)), unsigned_text)):
        dump = make_backup(there, "odoo", NOW - timedelta(hours=hours))
        manifest = manifest_at(Path(f"{dump}.json"))
        assert manifest is not None
        Path(f"{dump}.json").write_text(text(manifest))
    repository = Repository(FolderStore(there), keyring)
    assert repository.prune(BackupName("odoo", NOW), retention_days=1) == []
    newest = repository.best("odoo")
    assert newest is not None
    assert newest.name.dump == ours[-1]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["signed"], 0),
        (["signed, lost"], 0),
        (["lost", "signed, lost"], 1),
        (["signed, lost", "lost"], 0),
        (["unsigned", "lost"], 0),
        (["signed, lost", "unsigned"], 0),
        (["signed", "signed, lost", "unsigned"], 0),
        (["no dump"], None),
        ([], None),
    ],
)
def test_best_backup_is_signed_and_good_or_at_least_has_its_dump(
    here: Path, tmp_path: Path, kinds: list[str], expected: int | None
) -> None:
    names = []
    for hours, kind in enumerate(kinds):
        name = whole_backup(here, NOW + timedelta(hours=hours))
        names.append(name)
        manifest = manifest_at(here / name.manifest)
        assert manifest is not None
        if "signed" not in kind.split(", "):
            (here / name.manifest).write_text(unsigned_text(manifest))
        if "lost" in kind:
            (here / name.filestore).unlink()
        if kind == "no dump":
            (here / name.dump).write_bytes(b"")
    best = Folder(here, keyring_with(tmp_path / "keys")).best("odoo")
    assert (best and best.name) == (None if expected is None else names[expected])


def test_forged_backup_is_not_good_and_never_deleted(tmp_path: Path, there: Path) -> None:
    dumps = [make_backup(there, "odoo", NOW - timedelta(days=days)) for days in (0, 100, 200, 300)]
    path = Path(f"{dumps[0]}.json")
    path.write_text(with_sum(path.read_text().replace('"tables": 1', '"tables": 2')))
    repository = Repository(FolderStore(there), keyring_with(tmp_path / "keys"))
    forged = repository.backups("odoo")[-1]
    assert (forged.verified, forged.signature) == (False, "wrong")
    assert "forged" in str(forged.fault())
    assert repository.prune(BackupName("odoo", NOW + timedelta(days=900)), retention_days=1) == []
    newest = repository.best("odoo")
    assert newest is not None
    assert newest.name.dump == dumps[1].name


def test_manifest_of_a_copy_is_deleted_last(there: Path) -> None:
    for days in range(3):
        make_backup(there, "odoo", NOW - timedelta(days=days))
    old = BackupName("odoo", NOW - timedelta(days=40))
    make_backup(there, "odoo", old.created_at)
    (there / old.globals).touch()
    store = NotingStore(there)
    assert Repository(store).prune(BackupName("odoo", NOW), retention_days=30) == [old.dump]
    assert store.noted == [f"delete {file}" for file in (old.globals, old.dump, old.manifest)]
