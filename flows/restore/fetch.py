"""Backups that are only at a target, fetched for the length of a restore."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocks.target_store import TargetError
from flows.backup.files import FETCHED, Backup
from flows.backup.manifest import Manifest
from flows.backup.names import BackupName
from flows.backup.preflight import check_space, prepare_folder
from flows.engine.active_run import current_run
from flows.offsite.copies import Copy, files_of, find_copy, newest_verified
from flows.offsite.owner import ClaimedError, check_claim
from flows.offsite.steps import Target, transfer
from opsdb.errors import PreflightError

DOWNLOAD_SECONDS = 3600


def find_fetchable(target: Target, folder: Path, database: str, name: BackupName | None) -> Backup | None:
    """The named copy of the database, or its newest good one, as what it will be once it is fetched.

    None where there is none. Changes nothing. Raises PreflightError where it is not whole, or the folder has no room.
    """
    try:
        copy = _find(target, database, name)
    except TargetError as error:
        raise PreflightError(f"backup target {target.name}: {error}") from None
    if copy is None:
        return None
    manifest = _checked(target, copy)
    there = next(one for one in (folder, *folder.parents) if one.is_dir())
    check_space(there, {"the backup": sum(size for _, size, _ in files_of(manifest))})
    here = folder / f".fetched-{current_run().id}"
    return Backup(folder=here, name=copy.name, size_bytes=manifest.size_bytes, manifest=manifest, at_target=True)


@contextmanager
def fetched(target: Target | None, backup: Backup) -> Iterator[None]:
    """The files of a backup that find_fetchable() found, removed at the end. Who restores it compares their bytes.

    Does nothing with a backup that needs no fetching.
    """
    here = backup.folder
    if target is None or not backup.at_target:
        yield
        return
    env = {"FOLDER": str(here), "BACKUP": backup.name.dump}
    if current_run().plan is not None:
        transfer("download", "download", target, env, timeout=DOWNLOAD_SECONDS)
        yield
        return
    lock = _make(here)
    try:
        # what it brings is removed below
        transfer("download", "download", target, env, timeout=DOWNLOAD_SECONDS, must_run_again=True)
        yield
    finally:
        shutil.rmtree(here, ignore_errors=True)
        os.close(lock)


def _find(target: Target, database: str, name: BackupName | None) -> Copy | None:
    try:
        check_claim(target.store, target.room)
    except ClaimedError as error:
        if name is None:
            raise PreflightError(f"backup target {target.name}: {error.found}: name the backup that you want") from None
        current_run().event(f"backup target {target.name}: {error.found}", level="warning", backup=name.dump)
    return newest_verified(target.store, database) if name is None else find_copy(target.store, name)


def _checked(target: Target, copy: Copy) -> Manifest:
    if copy.manifest is None:
        raise PreflightError(f"{target.store.url(copy.name.manifest)} is not as it was written: choose another backup")
    if not copy.verified:
        raise PreflightError(
            f"{target.store.url(copy.name.dump)} is not whole, files of it are missing or not of their size: "
            "choose another backup"
        )
    return copy.manifest


def _make(here: Path) -> int:
    """Make the folder and remove those of killed runs. Returns its lock, which lasts as long as this process."""
    prepare_folder(here.parent)
    parent = os.open(here.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(parent, fcntl.LOCK_EX)  # else another run could remove the new folder before it is locked
        if left := _clear(here.parent):
            current_run().event("removed what killed runs had fetched", level="warning", folders=left)
        here.mkdir(mode=0o700)
        lock = _lock(here)
        if lock is None:
            raise PreflightError(f"{here} is in use by another process")
        return lock
    finally:
        os.close(parent)


def _clear(folder: Path) -> list[str]:
    cleared = []
    for path in sorted(folder.iterdir()):
        if not FETCHED.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            cleared.append(path.name)
    return cleared


def _lock(folder: Path) -> int | None:
    """The open folder with a lock on it, or None where a living process has that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
