"""Backups that are only at a target, fetched for the length of a restore."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Self

from blocks.target_store import TargetError
from flows.backup.folder import FETCHED, Folder, check_space
from flows.backup.names import BackupName
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.step import action
from flows.offsite.owner import NotOursError, check_owner
from flows.offsite.target import Target
from opsdb.errors import PreflightError

DOWNLOAD_SECONDS = 3600


def find_at_target(target: Target, folder: Folder, database: str, name: BackupName | None) -> Backup | None:
    """The named copy of the database, or its newest good one; None where there is none.

    Changes nothing. Raises PreflightError where it is not whole, or the folder has no room for it.
    """
    try:
        backup = _find(target, database, name)
    except TargetError as error:
        raise PreflightError(f"backup target {target.name}: {error}") from None
    if backup is None:
        return None
    if backup.manifest is None:
        raise PreflightError(f"{backup.url}: {backup.fault()}. Hint: choose another backup")
    if not backup.verified:
        raise PreflightError(
            f"{backup.url} is not whole, files of it are missing or not of their size: choose another backup"
        )
    there = next(one for one in (folder.path, *folder.path.parents) if one.is_dir())
    check_space(there, {"the backup": sum(one.size_bytes for one in backup.manifest.files)})
    return backup


class Fetched:
    """A folder of this run's own for a backup from a target, removed with all in it at the end of a `with` block.

    Who restores from it compares the bytes.
    """

    def __init__(self, target: Target, backup: Backup, within: Folder) -> None:
        self.path = within.path / f".fetched-{current_run().id}"
        self._target = target
        self._backup = backup
        self._within = within
        self._lock: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)

    def fetch(self) -> None:
        """As steps of the current run. Raises StepError."""
        action("fetch folder", self._make, about=f"make {self.path}", must_run_again=True)
        self._target.transfer(
            "download", "download", self._backup.name, self.path, timeout=DOWNLOAD_SECONDS, must_run_again=True
        )

    def _make(self) -> None:
        """Make it and remove those of killed runs. Its lock lasts as long as this process."""
        self._within.prepare()
        parent = os.open(self._within.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(parent, fcntl.LOCK_EX)  # else another run could remove the new folder before it is locked
            if left := _clear(self._within.path):
                current_run().event("removed what killed runs had fetched", level="warning", folders=left)
            self.path.mkdir(mode=0o700)
            self._lock = _lock(self.path)
            if self._lock is None:
                raise PreflightError(f"{self.path} is in use by another process")
        finally:
            os.close(parent)


def _find(target: Target, database: str, name: BackupName | None) -> Backup | None:
    try:
        check_owner(target.store, target.room)
    except NotOursError as error:
        if name is None:
            raise PreflightError(f"backup target {target.name}: {error.found}: name the backup that you want") from None
        current_run().event(f"backup target {target.name}: {error.found}", level="warning", backup=name.dump)
    return target.repository.newest_verified(database) if name is None else target.repository.find(name)


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
