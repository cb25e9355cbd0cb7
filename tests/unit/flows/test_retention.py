"""Which backups may go, whatever backups there are."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flows.backup_files import Backup, list_backups, remove
from flows.backup_manifest import Manifest
from flows.backup_names import BackupName
from flows.retention import prunable

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
SHA256 = "0" * 64
ages = st.timedeltas(min_value=timedelta(days=-2), max_value=timedelta(days=90)).map(
    lambda age: timedelta(seconds=int(age.total_seconds()))
)
kinds = st.sampled_from(["good", "damaged", "without manifest"])
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
        folder=folder,
        name=name,
        size_bytes=100 if kind == "good" else 50,
        manifest=None if kind == "without manifest" else manifest,
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
            made.path.write_bytes(b"x" * made.size_bytes)
            if made.manifest is not None:
                (folder / made.name.manifest).write_text(made.manifest.text())
            best = made.path if kind == "good" else best
            for old in prunable(list_backups(folder, "odoo"), now=tonight, retention_days=days):
                remove(old)
            assert best is None or best.exists()
        assert all(stranger.read_text() == "theirs" for stranger in strangers)
