"""A dump gets its own name whole and with its manifest, or not at all."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.backup.draft import Draft, clear_leftovers, leftover_bytes
from flows.backup.folder import Folder
from flows.backup.manifest import File, Manifest
from flows.backup.names import BackupName
from opsdb.errors import PreflightError, StepFailedError
from tests.support.backups import KEY

NOW = datetime(2026, 3, 1, 2, 0, 0, 999, tzinfo=UTC)


def manifest_of(one: Draft, size_bytes: int = 4) -> Manifest:
    return Manifest(
        database=one.name.database,
        file=one.name.dump,
        created_at=one.name.created_at,
        size_bytes=size_bytes,
        sha256="0" * 64,
        tables=1,
        server_version="18.6",
        pg_dump_version="18.6",
        run_id="r",
    )


@contextlib.contextmanager
def draft(folder: Path, database: str, *, clock: Callable[[], datetime]) -> Iterator[Draft]:
    with Draft(folder, database, clock=clock) as one:
        one.reserve()
        yield one


def left_by_a_killed_run(folder: Path) -> Draft:
    """A draft that is not closed; see die()."""
    one = Draft(folder, "odoo", clock=lambda: NOW)
    one.reserve()
    return one


def die(one: Draft) -> None:
    """What a SIGKILL leaves: the files as they are, the lock gone."""
    assert one._handles
    for handle in one._handles.values():
        os.close(handle)


def dump_of(one: Draft) -> Path:
    """Where it is written."""
    return one.partial(one.name.dump)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_publish_leaves_the_dump_and_its_manifest(tmp_path: Path) -> None:
    with draft(tmp_path, "odoo", clock=lambda: NOW) as one:
        dump_of(one).write_bytes(b"dump")
        one.publish(manifest_of(one), KEY)
    assert names(tmp_path) == {"odoo_20260301T020000Z.dump", "odoo_20260301T020000Z.dump.json"}
    assert [backup.verified for backup in Folder(tmp_path).backups("odoo")] == [True]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_draft_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with draft(tmp_path, "odoo", clock=lambda: NOW) as one:
            dump_of(one).write_bytes(b"du")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == set()


def test_second_draft_of_the_same_second_takes_the_next(tmp_path: Path) -> None:
    ticks = iter([NOW, NOW, NOW, NOW + timedelta(seconds=1)])
    with draft(tmp_path, "odoo", clock=lambda: NOW) as one, draft(tmp_path, "odoo", clock=lambda: next(ticks)) as two:
        assert (one.name.created_at, two.name.created_at) == (NOW.replace(microsecond=0), next_second(NOW))
        for each in (one, two):
            dump_of(each).write_bytes(b"dump")
            each.publish(manifest_of(each), KEY)
    assert len(Folder(tmp_path).backups("odoo")) == 2


def next_second(when: datetime) -> datetime:
    return when.replace(microsecond=0) + timedelta(seconds=1)


@pytest.mark.parametrize("taken", ["dump", "manifest"])
def test_draft_never_takes_a_name_that_is_published(tmp_path: Path, taken: str) -> None:
    existing = tmp_path / str(getattr(BackupName("odoo", NOW), taken))
    existing.write_bytes(b"theirs")
    ticks = iter([NOW, NOW, NOW + timedelta(seconds=1)])
    with draft(tmp_path, "odoo", clock=lambda: next(ticks)) as one:
        assert one.name.created_at == next_second(NOW)
    assert existing.read_bytes() == b"theirs"


@pytest.mark.parametrize("taken", ["dump", "manifest"])
def test_publish_overwrites_nothing(tmp_path: Path, taken: str) -> None:
    with draft(tmp_path, "odoo", clock=lambda: NOW) as one:
        (tmp_path / str(getattr(one.name, taken))).write_bytes(b"theirs")
        with pytest.raises(StepFailedError, match="already exists"):
            one.publish(manifest_of(one), KEY)
    assert names(tmp_path) == {str(getattr(BackupName("odoo", NOW), taken))}
    assert next(tmp_path.iterdir()).read_bytes() == b"theirs"


def with_globals(one: Draft) -> Manifest:
    """Write the dump and the roles; the manifest that names both."""
    dump_of(one).write_bytes(b"dump")
    one.partial(one.name.globals).write_bytes(b"roles")
    companion = File(file=one.name.globals, size_bytes=5, sha256="0" * 64)
    return manifest_of(one).model_copy(update={"globals": companion})


def test_publish_gives_the_other_files_their_names(tmp_path: Path) -> None:
    with draft(tmp_path, "odoo", clock=lambda: NOW) as one:
        one.publish(with_globals(one), KEY)
    dump = one.name.dump
    assert names(tmp_path) == {dump, f"{dump}.json", f"{dump}.globals.sql"}
    (backup,) = Folder(tmp_path).backups("odoo")
    assert backup.verified
    (tmp_path / one.name.globals).write_bytes(b"role")
    assert not Folder(tmp_path).backups("odoo")[0].verified
    backup.repository.remove(backup)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("links", [1, 2, 3])
def test_interrupted_publish_leaves_a_whole_backup_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: int
) -> None:
    with (
        contextlib.suppress(KeyboardInterrupt),
        draft(tmp_path, "odoo", clock=lambda: NOW) as one,
        monkeypatch.context() as patch,
    ):
        manifest = with_globals(one)
        interrupt_after(links, patch)
        one.publish(manifest, KEY)
    assert len(names(tmp_path)) == (3 if links == 3 else 0)


@pytest.mark.parametrize("links", [1, 2, 3])
def test_clear_leftovers_after_a_kill_in_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: int) -> None:
    dead = left_by_a_killed_run(tmp_path)
    manifest = with_globals(dead)
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        interrupt_after(links, patch)
        dead.publish(manifest, KEY)
    die(dead)
    assert clear_leftovers(tmp_path, "odoo") == [dump_of(dead).name]
    assert len(names(tmp_path)) == (3 if links == 3 else 0)
    assert [one.verified for one in Folder(tmp_path).backups("odoo")] == [True] * (links == 3)


def test_publish_leaves_a_stranger_with_the_name_of_another_file(tmp_path: Path) -> None:
    with draft(tmp_path, "odoo", clock=lambda: NOW) as one:
        (tmp_path / one.name.globals).write_bytes(b"theirs")
        with pytest.raises(StepFailedError, match="already exists"):
            one.publish(with_globals(one), KEY)
    assert names(tmp_path) == {one.name.globals}
    assert (tmp_path / one.name.globals).read_bytes() == b"theirs"


def write_all(one: Draft) -> Manifest:
    """Write each file as the steps do."""
    for file in (one.name.dump, one.name.globals, one.name.filestore):
        write = 'echo ours | tee -- "$1"; sync -- "$1"'
        subprocess.run(["bash", "-c", write, "bash", one.path(file)], check=True, capture_output=True)
    roles = File(file=one.name.globals, size_bytes=5, sha256="0" * 64)
    archive = File(file=one.name.filestore, size_bytes=5, sha256="0" * 64)
    return manifest_of(one, 5).model_copy(update={"globals": roles, "filestore": archive})


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that only we may write."""
    (tmp_path / "backups").mkdir()
    (tmp_path / "victim").write_bytes(b"theirs")
    return tmp_path / "victim"


@pytest.mark.parametrize("file", ["dump", "globals", "filestore"])
def test_link_under_a_partial_name_is_neither_written_through_nor_published(victim: Path, file: str) -> None:
    folder = victim.parent / "backups"
    with draft(folder, "odoo", clock=lambda: NOW) as one:
        partial = one.partial(str(getattr(one.name, file)))
        partial.rename(victim.parent / "moved")
        partial.symlink_to(victim)
        one.publish(write_all(one), KEY)
    assert victim.read_bytes() == b"theirs"
    (backup,) = Folder(folder).backups("odoo")
    assert backup.verified
    assert {path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"} == {b"ours\n"}


@pytest.mark.parametrize("file", ["dump", "globals", "filestore"])
def test_draft_whose_file_was_deleted_is_not_published(victim: Path, file: str) -> None:
    folder = victim.parent / "backups"
    with draft(folder, "odoo", clock=lambda: NOW) as one:
        partial = one.partial(str(getattr(one.name, file)))
        partial.unlink()
        partial.symlink_to(victim)
        with pytest.raises(StepFailedError, match=f"{partial.name} was deleted while it was written"):
            one.publish(write_all(one), KEY)
    assert victim.read_bytes() == b"theirs"
    assert names(folder) == set()


def test_path_of_a_draft_that_is_only_planned_is_its_partial(tmp_path: Path) -> None:
    one = Draft(tmp_path, "odoo", clock=lambda: NOW)
    assert one.path(one.name.dump) == str(one.partial(one.name.dump))


def test_draft_gives_up_when_the_clock_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.backup.draft._RESERVE_SECONDS", 0.3)
    (tmp_path / BackupName("odoo", NOW).dump).touch()
    with pytest.raises(PreflightError, match="clock"), draft(tmp_path, "odoo", clock=lambda: NOW):
        pass
    assert names(tmp_path) == {BackupName("odoo", NOW).dump}


def test_draft_in_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="cannot write"), draft(tmp_path / "no", "odoo", clock=lambda: NOW):
        pass


def test_clear_leftovers_removes_what_the_dead_left(tmp_path: Path) -> None:
    dead = left_by_a_killed_run(tmp_path)
    dump_of(dead).write_bytes(b"du")
    (tmp_path / dead.name.manifest_partial).touch()
    dead.partial(dead.name.filestore).write_bytes(b"files")
    die(dead)
    assert leftover_bytes(tmp_path, "odoo") == 7
    assert clear_leftovers(tmp_path, "odoo") == [dump_of(dead).name]
    assert names(tmp_path) == set()
    assert leftover_bytes(tmp_path, "odoo") == 0


def test_leftover_that_has_its_own_name_as_well_frees_nothing(tmp_path: Path) -> None:
    dead = left_by_a_killed_run(tmp_path)
    dump_of(dead).write_bytes(b"dump")
    os.link(dump_of(dead), dead.dump)  # it died between this and the removal of the partial
    die(dead)
    assert leftover_bytes(tmp_path, "odoo") == 0


def test_clear_leftovers_spares_the_living_and_other_databases(tmp_path: Path) -> None:
    strangers = {".odoo.partial", "odoo_20260301T020000Z.dump.partial", BackupName("odoo_prod", NOW).partial}
    for name in strangers:
        (tmp_path / name).touch()
    (tmp_path / BackupName("odoo", NOW - timedelta(days=1)).partial).symlink_to(tmp_path / ".odoo.partial")
    with draft(tmp_path, "odoo", clock=lambda: NOW) as living:
        before = names(tmp_path)
        assert clear_leftovers(tmp_path, "odoo") == []
        assert names(tmp_path) == before
        assert dump_of(living).exists()


def interrupt_after(links: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt strikes when `links` hard links were made, before publish() goes on."""
    real, made = os.link, iter(range(1, 99))

    def link(source: Path, target: Path, **how: Any) -> None:
        number = next(made)
        if number <= links:
            real(source, target, **how)
        if number >= links:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("links", [0, 1, 2])
def test_crash_while_publishing_never_leaves_a_dump_without_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: int
) -> None:
    dead = left_by_a_killed_run(tmp_path)
    dump_of(dead).write_bytes(b"dump")
    interrupt_after(links, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        dead.publish(manifest_of(dead), KEY)
    monkeypatch.undo()
    die(dead)
    backups = Folder(tmp_path).backups("odoo")
    assert [backup.verified for backup in backups] == ([True] if links == 2 else [])
    clear_leftovers(tmp_path, "odoo")
    assert names(tmp_path) == ({dead.name.dump, dead.name.manifest} if links == 2 else set())


@pytest.mark.parametrize("links", [0, 1, 2])
def test_interrupt_while_publishing_leaves_both_files_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: int
) -> None:
    with draft(tmp_path, "odoo", clock=lambda: NOW) as one:
        dump_of(one).write_bytes(b"dump")
        interrupt_after(links, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            one.publish(manifest_of(one), KEY)
    assert names(tmp_path) == ({one.name.dump, one.name.manifest} if links == 2 else set())
