"""Which backups may go, whatever backups there are."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.backup.folder import Folder
from flows.backup.manifest import Manifest
from flows.backup.names import BackupName
from flows.backup.repository import Backup
from flows.backup.retention import prunable
from tests.support.backups import KEY, NOW, days_ago, dumps, kinds, make_backup

SHA256 = "0" * 64
ages = st.timedeltas(min_value=timedelta(days=-2), max_value=timedelta(days=90)).map(
    lambda age: timedelta(seconds=int(age.total_seconds()))
)
shelves = st.dictionaries(ages, kinds, max_size=12)
retentions = st.integers(min_value=1, max_value=60)
kept_at_least = st.integers(min_value=1, max_value=4)


def shelf_of(kind_by_age: dict[timedelta, str], folder: Path) -> list[Backup]:
    """The backups of one database, some cut off, some without the manifest that makes them ours."""
    return [backup(folder, NOW - age, kind) for age, kind in kind_by_age.items()]


def backup(folder: Path, created_at: datetime, kind: str) -> Backup:
    name = BackupName("odoo", created_at)
    manifest = Manifest(
        database="odoo",
        file=name.dump,
        created_at=created_at,
        size_bytes=100,
        sha256=SHA256,
        tables=1,
        server_version="15.4",
        pg_dump_version="15.4",
        run_id="",
    )
    return Backup(
        name=name,
        sizes={name.dump: 100 if kind == "good" else 50},
        manifest=None if kind == "without manifest" else manifest,
        repository=Folder(folder),
    )


@given(shelves, retentions, kept_at_least)
def test_what_goes_is_ours_and_old_and_never_among_the_newest_good_ones(
    kind_by_age: dict[timedelta, str], days: int, keep: int
) -> None:
    there = shelf_of(kind_by_age, Path("/backups"))
    gone = prunable(there, now=NOW, retention_days=days, keep_at_least=keep)
    good = sorted((one.name.created_at for one in there if one.verified), reverse=True)
    for one in gone:
        assert one.manifest is not None
        assert NOW - one.name.created_at > timedelta(days=days)
        assert one.name.created_at not in good[:keep]
    if len(good) < keep:
        assert gone == []
    elif good:
        spared = [one for one in there if one.manifest is not None and one not in gone]
        assert all(NOW - one.name.created_at <= timedelta(days=days) or one.name.created_at in good for one in spared)
        assert sum(NOW - one.name.created_at > timedelta(days=days) for one in spared) <= keep
    assert [one.name.created_at for one in gone] == sorted(one.name.created_at for one in gone)


@given(shelves, retentions, st.permutations(range(12)))
def test_order_in_which_backups_are_listed_does_not_matter(
    kind_by_age: dict[timedelta, str], days: int, order: list[int]
) -> None:
    there = shelf_of(kind_by_age, Path("/backups"))
    shuffled = [there[index] for index in order if index < len(there)]
    assert prunable(there, now=NOW, retention_days=days) == prunable(shuffled, now=NOW, retention_days=days)


@given(shelves, retentions)
def test_what_was_spared_is_spared_again_and_more_days_spare_more(kind_by_age: dict[timedelta, str], days: int) -> None:
    there = shelf_of(kind_by_age, Path("/backups"))
    gone = prunable(there, now=NOW, retention_days=days)
    left = [one for one in there if one not in gone]
    assert prunable(left, now=NOW, retention_days=days) == []
    assert set(prunable_names(there, days + 1)) <= set(prunable_names(there, days))


def prunable_names(there: list[Backup], days: int) -> list[str]:
    return [one.name.dump for one in prunable(there, now=NOW, retention_days=days)]


@given(st.lists(kinds, min_size=1, max_size=10), st.integers(min_value=1, max_value=5))
@pytest.mark.promise(9)
def test_nights_never_lose_the_last_good_backup_nor_a_file_of_others(nights: list[str], days: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        strangers = {folder / "odoo_2.dump", folder / "odoo_shop_20260101T000000Z.dump", folder / "notes"}
        for stranger in strangers:
            stranger.write_text("theirs")
        best = None
        for night, kind in enumerate(nights):
            tonight = NOW + timedelta(days=night)
            made = backup(folder, tonight, kind)
            Path(made.url).write_bytes(b"x" * made.size_bytes)
            if made.manifest is not None:
                (folder / made.name.manifest).write_text(made.manifest.text(KEY))
            best = Path(made.url) if kind == "good" else best
            for old in prunable(Folder(folder).backups("odoo"), now=tonight, retention_days=days, keep_at_least=1):
                old.repository.remove(old)
            assert best is None or best.exists()
        assert all(stranger.read_text() == "theirs" for stranger in strangers)


def test_prunable_is_what_is_older_than_the_retention(tmp_path: Path) -> None:
    old = make_backup(tmp_path, "odoo", days_ago(30) - timedelta(seconds=1))
    make_backup(tmp_path, "odoo", days_ago(30))
    make_backup(tmp_path, "odoo", NOW)
    assert dumps(prunable(Folder(tmp_path).backups("odoo"), now=NOW, retention_days=30, keep_at_least=1)) == [old.name]


def test_prunable_keeps_the_newest_good_one_whatever_its_age(tmp_path: Path) -> None:
    older = make_backup(tmp_path, "odoo", days_ago(300))
    make_backup(tmp_path, "odoo", days_ago(200))
    damaged = make_backup(tmp_path, "odoo", days_ago(100))
    damaged.write_bytes(b"")
    backups = Folder(tmp_path).backups("odoo")
    assert dumps(prunable(backups, now=NOW, retention_days=1, keep_at_least=1)) == [older.name, damaged.name]
    assert dumps(prunable(backups, now=NOW, retention_days=1, keep_at_least=2)) == [damaged.name]


def test_prunable_spares_all_where_too_few_are_good(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", days_ago(300)).write_bytes(b"")
    make_backup(tmp_path, "odoo", days_ago(200)).write_bytes(b"")
    assert prunable(Folder(tmp_path).backups("odoo"), now=NOW, retention_days=1, keep_at_least=1) == []


def test_prunable_takes_nothing_from_a_clock_in_the_past(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", days_ago(2))
    make_backup(tmp_path, "odoo", NOW)
    assert prunable(Folder(tmp_path).backups("odoo"), now=days_ago(4000), retention_days=1, keep_at_least=1) == []


@pytest.mark.parametrize(("retention_days", "keep_at_least"), [(0, 1), (-1, 1), (1, 0)])
def test_prunable_refuses_to_keep_nothing(retention_days: int, keep_at_least: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        prunable([], now=NOW, retention_days=retention_days, keep_at_least=keep_at_least)


EVENT = st.one_of(
    st.tuples(st.just("success"), st.integers(0, 3 * 86400)),
    st.tuples(st.just("failure"), st.integers(0, 3 * 86400)),
    st.tuples(st.just("clock"), st.integers(-400, 400)),
    st.tuples(
        st.sampled_from(["truncate", "flip", "lose manifest", "break manifest", "lose dump"]), st.integers(0, 20)
    ),
)


def is_good(backup: Backup) -> bool:
    """Whether a dump's bytes are those that were verified: the test's own reading of the file."""
    return (
        backup.manifest is not None
        and hashlib.sha256(Path(backup.url).read_bytes()).hexdigest() == backup.manifest.sha256
        and backup.manifest.database == "odoo"
    )


def damage(folder: Path, how: str, which: int) -> None:
    made = [Path(backup.url) for backup in Folder(folder).backups("odoo") if backup.size_bytes]  # the stranger is empty
    if not made:
        return
    dump = made[which % len(made)]
    content = dump.read_bytes()
    match how:
        case "truncate":
            dump.write_bytes(content[:-1])
        case "flip":
            dump.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "lose manifest":
            Path(f"{dump}.json").unlink(missing_ok=True)
        case "break manifest":
            Path(f"{dump}.json").write_text("{")
        case "lose dump":
            dump.unlink()


@settings(max_examples=150)
@given(
    events=st.lists(EVENT, max_size=30),
    retention_days=st.integers(1, 40),
    keep_at_least=st.integers(1, 4),
)
def test_retention_keeps_enough_good_backups_and_no_stranger_is_touched(
    events: list[tuple[str, int]], retention_days: int, keep_at_least: int
) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder, clock = Path(path), NOW
        strangers = {
            make_backup(folder, "odoo_prod", days_ago(900)),
            make_backup(folder, "odo", days_ago(900)),
            make_backup(folder, "Odoo", days_ago(900)),
            *(folder / name for name in ("odoo.dump", "odoo_20200101T000000Z.dump.gz", "notes", "odoo_20200101.dump")),
            folder / BackupName("odoo", days_ago(901)).dump,  # ours by name only: it has no manifest
        }
        for stranger in strangers:
            stranger.touch()
        strangers |= {Path(f"{dump}.json") for dump in strangers if Path(f"{dump}.json").exists()}
        for what, number in events:
            if what == "clock":
                clock += timedelta(days=number)
            elif what in ("success", "failure"):
                clock += timedelta(seconds=number)
            else:
                damage(folder, what, number)
            if what != "success":
                continue
            while (folder / BackupName("odoo", clock).dump).exists():
                clock += timedelta(seconds=1)
            made = make_backup(folder, "odoo", clock, str(clock).encode())
            before = Folder(folder).backups("odoo")
            for old in prunable(before, now=clock, retention_days=retention_days, keep_at_least=keep_at_least):
                assert clock - old.name.created_at > timedelta(days=retention_days)
                old.repository.remove(old)
            after = Folder(folder).backups("odoo")
            verified_before = sum(one.verified for one in before)
            assert sum(one.verified for one in after) >= min(keep_at_least, verified_before)
            assert str(made) in {one.url for one in after if is_good(one)}
            assert {one.url for one in before if one.manifest is None} <= {one.url for one in after}
        assert [stranger.name for stranger in strangers if not stranger.exists()] == []
