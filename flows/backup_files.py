"""The backups that lie in a folder: which there are, and which of them are good."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from flows.backup_manifest import Manifest, is_of, read_manifest
from flows.backup_names import BackupName, parse_name

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


def remove(backup: Backup) -> None:
    """Delete a backup. What a crash leaves is not verified and goes the next time, or is the small manifest."""
    for companion in backup.name.companions:
        (backup.folder / companion).unlink(missing_ok=True)
    backup.path.unlink(missing_ok=True)
    (backup.folder / backup.name.manifest).unlink(missing_ok=True)
