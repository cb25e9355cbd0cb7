"""The backups that lie in a folder: which there are, and which of them are good."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.backup.manifest import Manifest, is_of, read_manifest
from flows.backup.names import BackupName, parse_name
from opsdb.errors import StepFailedError

FETCHED = re.compile(r"\.fetched-[0-9a-f-]{36}")
"""What the folder is called into which a run fetches a backup, within the folder of backups."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A dump that lies under its own name, `size_bytes` long now. Without a manifest it is not known to be ours."""

    folder: Path
    name: BackupName
    size_bytes: int
    manifest: Manifest | None
    at_target: bool = False
    """Whether it is still to be fetched, into a folder that is made for it and removed after."""

    @property
    def path(self) -> Path:
        """The dump."""
        return self.folder / self.name.dump

    @property
    def verified(self) -> bool:
        """Whether it was verified when it was made and all of it still has its size; no bytes are read again."""
        if self.manifest is None or self.manifest.size_bytes != self.size_bytes:
            return False
        return all(_size(self.folder / one.file) == one.size_bytes for one in self.manifest.companions)


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


def list_backups(folder: Path, database: str) -> list[Backup]:
    """The dumps of exactly this database, oldest first. A folder that is missing holds none."""
    backups = []
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    for entry in entries:
        name = parse_name(entry.name)
        if name is None or name.database != database or not entry.is_file(follow_symlinks=False):
            continue
        try:
            size = entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:  # pruned by another run meanwhile
            continue
        manifest = read_manifest(folder / name.manifest)
        if manifest is not None and not is_of(manifest, name):
            manifest = None
        backups.append(Backup(folder=folder, name=name, size_bytes=size, manifest=manifest))
    return sorted(backups, key=lambda backup: backup.name.created_at)


def list_databases(folder: Path) -> list[str]:
    """The databases that have a dump in the folder, in alphabetical order."""
    try:
        names = [parse_name(entry.name) for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    return sorted({name.database for name in names if name is not None})


@contextmanager
def opened(backup: Backup) -> Iterator[Mapping[str, str]]:
    """Where each file of the backup can be read until the end of the block, whoever deletes it meanwhile: by its name.

    These are paths in this process's /proc folder. An open file stays until it is closed, also on a disk that is
    read-only or knows no hard links, and nothing of it is left when this process is killed. Only a host that deletes
    it over NFS takes it away. In a dry run they are the files' own paths. Raises StepFailedError for a file that is
    gone already.
    """
    names = [backup.name.dump, *(one.file for one in (backup.manifest.companions if backup.manifest else ()))]
    from flows.engine.active_run import (
        current_run,  # not for programs of steps, which only list: it loads the ops database
    )

    if current_run().plan is not None:
        yield {name: str(backup.folder / name) for name in names}
        return
    with ExitStack() as stack:
        paths = {}
        for name in names:
            handle = _open(backup.folder / name)
            stack.callback(os.close, handle)
            paths[name] = f"/proc/{os.getpid()}/fd/{handle}"
        yield paths


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StepFailedError(
            f"{path} is not there: the backup was deleted meanwhile, or never whole; choose another (`ops backups`)"
        ) from None
    except OSError as error:
        raise StepFailedError(
            f"{path} cannot be read: {error.strerror}; correct that, or choose another backup"
        ) from error


def remove(backup: Backup) -> None:
    """Delete a backup. What a crash leaves is not verified and goes the next time, or is the small manifest."""
    for companion in backup.name.companions:
        (backup.folder / companion).unlink(missing_ok=True)
    backup.path.unlink(missing_ok=True)
    (backup.folder / backup.name.manifest).unlink(missing_ok=True)
