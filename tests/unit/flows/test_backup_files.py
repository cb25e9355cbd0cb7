"""Names, manifests and retention: decided without a database."""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.backup_files import Backup, list_backups, remove
from flows.backup_manifest import Companion, Manifest, read_manifest
from flows.backup_names import BackupName, parse_name, parse_partial
from flows.retention import prunable

NOW = datetime(2026, 3, 1, 2, 0, 0, tzinfo=UTC)


def make_backup(folder: Path, database: str, created_at: datetime, content: bytes = b"dump") -> Path:
    """Write a dump and its manifest as a successful run leaves them."""
    name = BackupName(database, created_at)
    manifest = Manifest(
        database=database,
        file=name.dump,
        created_at=created_at,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        tables=1,
        server_version="18.6",
        pg_dump_version="18.6",
        run_id="r",
    )
    (folder / name.dump).write_bytes(content)
    (folder / name.manifest).write_text(manifest.text())
    return folder / name.dump


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def dumps(backups: list[Backup]) -> list[str]:
    return [backup.name.dump for backup in backups]


def test_name_is_utc_whatever_zone_it_was_made_in() -> None:
    local = NOW.astimezone(tz=None)
    assert BackupName("odoo", local).dump == "odoo_20260301T020000Z.dump"


@pytest.mark.parametrize("database", ["odoo", "odoo_prod", "odoo_20250101T000000Z", "a.b-c", "9", "_", "x" * 63])
def test_parse_name_reads_back_what_was_made(database: str) -> None:
    name = BackupName(database, NOW)
    assert parse_name(name.dump) == name
    assert parse_partial(name.partial) == name
    assert len(name.manifest_partial) < 255


@pytest.mark.parametrize(
    "foreign",
    [
        "odoo.dump",
        "odoo_20260301_020000.dump",
        "odoo_20261301T020000Z.dump",
        "odoo_20260301T020000Z.dump.gz",
        "odoo_20260301T020000Z.dump\n",
        "odoo_\N{ARABIC-INDIC DIGIT TWO}0260301T020000Z.dump",
        "_20260301T020000Z.dump",
        "-odoo_20260301T020000Z.dump",
        ".odoo_20260301T020000Z.dump",
        "x" * 64 + "_20260301T020000Z.dump",
    ],
)
def test_parse_name_refuses_what_is_not_ours(foreign: str) -> None:
    assert parse_name(foreign) is None


def test_list_backups_takes_exactly_one_database(tmp_path: Path) -> None:
    ours = make_backup(tmp_path, "odoo", days_ago(1))
    make_backup(tmp_path, "odoo_prod", days_ago(1))
    make_backup(tmp_path, "odoo_20250101T000000Z", days_ago(1))
    assert dumps(list_backups(tmp_path, "odoo")) == [ours.name]
    assert list_backups(tmp_path / "missing", "odoo") == []


def test_dump_without_a_manifest_is_listed_and_not_verified(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", days_ago(100))
    Path(f"{dump}.json").unlink()
    (found,) = list_backups(tmp_path, "odoo")
    assert not found.verified
    assert prunable([found, *fresh(tmp_path)], now=NOW, retention_days=30) == []


def test_manifest_without_a_dump_is_no_backup(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", NOW).unlink()
    assert list_backups(tmp_path, "odoo") == []


def test_dump_of_another_size_is_not_verified(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", NOW).write_bytes(b"dum")
    assert [backup.verified for backup in list_backups(tmp_path, "odoo")] == [False]


def test_manifest_of_another_backup_does_not_count(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", days_ago(1))
    other = make_backup(tmp_path, "odoo_prod", days_ago(1))
    Path(f"{dump}.json").write_bytes(Path(f"{other}.json").read_bytes())
    assert [backup.manifest for backup in list_backups(tmp_path, "odoo")] == [None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', "\0" * 10, "x" * 100_000])
def test_read_manifest_of_a_broken_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "m").write_text(text)
    assert read_manifest(tmp_path / "m") is None


def test_read_manifest_follows_no_link_and_hangs_on_no_pipe(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    (tmp_path / "link").symlink_to(f"{dump}.json")
    os.mkfifo(tmp_path / "pipe")
    assert read_manifest(tmp_path / "link") is None
    assert read_manifest(tmp_path / "pipe") is None
    assert read_manifest(tmp_path) is None


def test_links_and_folders_with_our_names_are_left_alone(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    (tmp_path / BackupName("odoo", days_ago(1)).dump).symlink_to(dump)
    (tmp_path / BackupName("odoo", days_ago(2)).dump).mkdir()
    assert dumps(list_backups(tmp_path, "odoo")) == [dump.name]


def fresh(folder: Path) -> list[Backup]:
    make_backup(folder, "odoo", NOW)
    return [backup for backup in list_backups(folder, "odoo") if backup.name.created_at == NOW]


def test_prunable_is_what_is_older_than_the_retention(tmp_path: Path) -> None:
    old = make_backup(tmp_path, "odoo", days_ago(30) - timedelta(seconds=1))
    make_backup(tmp_path, "odoo", days_ago(30))
    make_backup(tmp_path, "odoo", NOW)
    assert dumps(prunable(list_backups(tmp_path, "odoo"), now=NOW, retention_days=30)) == [old.name]


def test_prunable_keeps_the_newest_good_one_whatever_its_age(tmp_path: Path) -> None:
    older = make_backup(tmp_path, "odoo", days_ago(300))
    make_backup(tmp_path, "odoo", days_ago(200))
    damaged = make_backup(tmp_path, "odoo", days_ago(100))
    damaged.write_bytes(b"")
    backups = list_backups(tmp_path, "odoo")
    assert dumps(prunable(backups, now=NOW, retention_days=1)) == [older.name, damaged.name]
    assert dumps(prunable(backups, now=NOW, retention_days=1, keep_at_least=2)) == [damaged.name]


def test_prunable_spares_all_where_too_few_are_good(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", days_ago(300)).write_bytes(b"")
    make_backup(tmp_path, "odoo", days_ago(200)).write_bytes(b"")
    assert prunable(list_backups(tmp_path, "odoo"), now=NOW, retention_days=1) == []


def test_prunable_takes_nothing_from_a_clock_in_the_past(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", days_ago(2))
    make_backup(tmp_path, "odoo", NOW)
    assert prunable(list_backups(tmp_path, "odoo"), now=days_ago(4000), retention_days=1) == []


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
        and hashlib.sha256(backup.path.read_bytes()).hexdigest() == backup.manifest.sha256
        and backup.manifest.database == "odoo"
    )


def damage(folder: Path, how: str, which: int) -> None:
    made = [backup.path for backup in list_backups(folder, "odoo") if backup.size_bytes]  # the stranger is empty
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


@settings(max_examples=150, deadline=None)
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
            before = list_backups(folder, "odoo")
            for old in prunable(before, now=clock, retention_days=retention_days, keep_at_least=keep_at_least):
                assert clock - old.name.created_at > timedelta(days=retention_days)
                remove(old)
            after = list_backups(folder, "odoo")
            verified_before = sum(one.verified for one in before)
            assert sum(one.verified for one in after) >= min(keep_at_least, verified_before)
            assert made in {one.path for one in after if is_good(one)}
            assert {one.path for one in before if one.manifest is None} <= {one.path for one in after}
        assert [stranger.name for stranger in strangers if not stranger.exists()] == []


def test_manifest_of_format_1_is_read(tmp_path: Path) -> None:
    path = Path(f"{make_backup(tmp_path, 'odoo', NOW)}.json")
    manifest = read_manifest(path)
    assert manifest is not None
    path.write_text(manifest.model_copy(update={"format": 1}).model_dump_json(indent=2, exclude_none=True) + "\n")
    assert read_manifest(path) == manifest.model_copy(update={"format": 1})
    assert [backup.verified for backup in list_backups(tmp_path, "odoo")] == [True]


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    path = Path(f"{make_backup(tmp_path, 'odoo', NOW)}.json")
    good = path.read_bytes()
    assert read_manifest(path) is not None
    accepted = []
    for place in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
            if read_manifest(path) is not None:
                accepted.append((place, bit))
    for length in range(len(good)):
        path.write_bytes(good[:length])
        if read_manifest(path) is not None:
            accepted.append((length, -1))
    assert accepted == []


def test_manifest_that_names_files_of_another_backup_is_not_ours(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    manifest = read_manifest(Path(f"{dump}.json"))
    assert manifest is not None
    foreign = Companion(file="../../etc/passwd", size_bytes=1, sha256="0" * 64)
    Path(f"{dump}.json").write_text(manifest.model_copy(update={"globals": foreign}).text())
    assert [backup.manifest for backup in list_backups(tmp_path, "odoo")] == [None]
