"""Backups that are only at a target, fetched for the length of a restore."""

from __future__ import annotations

from typing import Self

from blocks.target_store import TargetError
from flows.backup.folder import FETCHED, Folder, check_space
from flows.backup.names import BackupName
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.step import action
from flows.offsite.owner import NotOursError
from flows.offsite.target import Target
from flows.restore.own_folder import OwnFolder
from opsdb.errors import PreflightError

DOWNLOAD_SECONDS = 3600


def find_at_target(target: Target, folder: Folder, database: str, name: BackupName | None) -> Backup | None:
    """The named copy of the database, or its best one; None where there is none.

    Changes nothing. Raises PreflightError where its dump is not whole, or the folder has no room for it.
    """
    try:
        backup = _find(target, database, name)
    except TargetError as error:
        raise PreflightError(f"backup target {target.name}: {error}") from None
    if backup is None:
        return None
    if backup.manifest is None:
        raise PreflightError(f"{backup.url}: {backup.fault()}. Hint: choose another backup")
    if not backup.restorable:
        raise PreflightError(f"{backup.url} is not whole: {backup.fault()}. Hint: choose another backup")
    there = next(one for one in (folder.path, *folder.path.parents) if one.is_dir())
    check_space(
        there, {"the backup": sum(one.size_bytes for one in backup.manifest.files if one.file not in backup.lost)}
    )
    return backup


class Fetched:
    """A folder of this run's own for a backup from a target, removed with all in it at the end of a `with` block.

    Who restores from it compares the bytes.
    """

    def __init__(self, target: Target, backup: Backup, within: Folder) -> None:
        self.path = within.path / f".fetched-{current_run().id}"
        self._folder = OwnFolder(self.path, leftovers=FETCHED)
        self._target = target
        self._backup = backup
        self._within = within

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.remove()

    def fetch(self) -> None:
        """As steps of the current run. Raises StepError."""
        action("fetch folder", self._make, about=f"make {self.path}", must_run_again=True)
        self._target.transfer(
            "download", "download", self._backup.name, self.path, timeout=DOWNLOAD_SECONDS, must_run_again=True
        )

    def _make(self) -> None:
        self._within.prepare()
        self._folder.make(event="removed what killed runs had fetched")


def _find(target: Target, database: str, name: BackupName | None) -> Backup | None:
    try:
        target.check_owner()
    except NotOursError as error:
        if name is None:
            raise PreflightError(f"backup target {target.name}: {error.found}: name the backup that you want") from None
        current_run().event(f"backup target {target.name}: {error.found}", level="warning", backup=name.dump)
    return target.repository.best(database) if name is None else target.repository.find(name)
