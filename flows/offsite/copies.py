"""Copies of backups at a target: which there are, how one is made, and which may go.

A copy is there when its manifest is, which is sent last and says what else belongs to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from blocks.target_store import Store, TargetError, Tell
from flows.backup.files import list_backups
from flows.backup.manifest import Manifest, is_of, parse_manifest, read_manifest
from flows.backup.names import BackupName, parse_name
from flows.backup.retention import KEPT_AT_LEAST, Kept, prunable

_SUFFIXES = (".json", ".globals.sql", ".filestore.tar.gz")


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup at a target. `sizes` are those of its files that are there, in bytes."""

    name: BackupName
    sizes: Mapping[str, int]
    manifest: Manifest | None

    @property
    def verified(self) -> bool:
        """Whether it was compared when it was sent, and all of it still has its size; no bytes are read again."""
        if self.manifest is None:
            return False
        return all(self.sizes.get(file) == size for file, size, _ in files_of(self.manifest))


def files_of(manifest: Manifest) -> list[tuple[str, int, str]]:
    """Name, size in bytes and sha256 of each file of a backup, but its manifest."""
    others = [(one.file, one.size_bytes, one.sha256) for one in manifest.companions]
    return [(manifest.file, manifest.size_bytes, manifest.sha256), *others]


def list_copies(store: Store, database: str | None = None) -> list[Copy]:
    """The copies of this database, or of all, oldest first. Raises TargetError."""
    sizes = store.sizes(f"{database}_" if database else "")
    copies = [_copy(store, name, sizes) for name in _names(sizes, database)]
    return [copy for copy in copies if copy is not None]


def newest_verified(store: Store, database: str) -> Copy | None:
    """The newest good copy, looking no further than needed. Raises TargetError."""
    sizes = store.sizes(f"{database}_")
    copies = (_copy(store, name, sizes) for name in reversed(_names(sizes, database)))
    return next((copy for copy in copies if copy is not None and copy.verified), None)


def find_copy(store: Store, name: BackupName) -> Copy | None:
    """The copy of this name, good or not, or None where there is none. Raises TargetError."""
    sizes = store.sizes(name.dump)
    return _copy(store, name, sizes) if name.manifest in sizes else None


def upload(store: Store, folder: Path, name: BackupName, *, tell: Callable[[str], Tell]) -> int:
    """Copy a backup, its manifest last, each file compared when it arrived; returns its bytes.

    `tell` is called with the name of each file. What fails leaves nothing of this call behind. Raises TargetError.
    """
    path = folder / name.manifest
    manifest = read_manifest(path)
    if manifest is None or not is_of(manifest, name):
        raise TargetError(f"{path} is not as it was written", advice="the backup was not copied; make a new one")
    written = path.read_bytes()
    files = [*files_of(manifest), (name.manifest, len(written), hashlib.sha256(written).hexdigest())]
    sent: list[str] = []
    try:
        for file, _, sha256 in files:
            if store.put(folder / file, sha256=sha256, tell=tell(file)):
                sent.append(file)
    except BaseException:
        for file in reversed(sent):
            with suppress(TargetError):
                store.delete(file)
        raise
    return sum(size for _, size, _ in files)


def missed(store: Store, folder: Path, newest: BackupName, *, retention_days: int) -> list[BackupName]:
    """The good backups of the folder that the place lacks and would keep, the newest first. Raises TargetError."""
    there = list_copies(store, newest.database)
    whole = {copy.name for copy in there if copy.verified}
    lacking = [one for one in list_backups(folder, newest.database) if one.verified and one.name not in whole]
    together: list[Kept] = [*(copy for copy in there if copy.verified), *lacking]
    old = prunable(together, now=newest.created_at, retention_days=retention_days, keep_at_least=KEPT_AT_LEAST)
    going = {one.name for one in old}
    return [one.name for one in reversed(lacking) if one.name not in going]


def clear_unfinished(store: Store, folder: Path, database: str, *, keep: BackupName) -> list[str]:
    """Remove what killed uploads of this database left; returns the names of the files.

    Besides what is incomplete, that is a file without a manifest beside it of a backup that the folder knows: it was
    sent from here. Runs on one database exclude each other, so none of them is being sent now. Raises TargetError.
    """

    def ours(file: str) -> bool:
        name = _backup_of(file)
        return name is not None and name.database == database

    removed = store.drop_unfinished(ours)
    sizes = store.sizes(f"{database}_")
    for file in sizes:
        name = _backup_of(file)
        if name is None or name.database != database or name == keep or name.manifest in sizes:
            continue
        if (folder / name.manifest).exists():
            store.delete(file)
            removed.append(file)
    return removed


def prune(store: Store, database: str, *, now: datetime, retention_days: int) -> list[str]:
    """Delete the copies that are too old, as in the folder; returns the names of the dumps. Raises TargetError."""
    copies = list_copies(store, database)
    old = prunable(copies, now=now, retention_days=retention_days, keep_at_least=KEPT_AT_LEAST)
    for copy in old:
        for file in copy.sizes:  # the manifest last: without it, the rest would be nobody's
            store.delete(file)
    return [copy.name.dump for copy in old]


def _names(files: Iterable[str], database: str | None) -> list[BackupName]:
    """Of the manifests among the files, in order."""
    names = [_backup_of(file) for file in files if file.endswith(".json")]
    ours = [name for name in names if name is not None and database in (None, name.database)]
    return sorted(ours, key=lambda name: (name.database, name.created_at))


def _copy(store: Store, name: BackupName, sizes: Mapping[str, int]) -> Copy | None:
    """None for one that went since the sizes were taken: another run pruned it."""
    try:
        manifest = _manifest(store, name)
    except TargetError:
        if name.manifest in store.sizes(name.manifest):
            raise
        return None
    return Copy(name=name, sizes={one: sizes[one] for one in _own_files(name) if one in sizes}, manifest=manifest)


def _own_files(name: BackupName) -> Iterable[str]:
    return (*name.companions, name.dump, name.manifest)


def _backup_of(file: str) -> BackupName | None:
    """The backup that a file belongs to by its name, or None where it is nobody's."""
    names = [parse_name(file.removesuffix(suffix)) for suffix in ("", *_SUFFIXES)]
    return next((name for name in names if name is not None and file in _own_files(name)), None)


def _manifest(store: Store, name: BackupName) -> Manifest | None:
    try:
        manifest = parse_manifest(store.read(name.manifest).decode())
    except (UnicodeDecodeError, ValidationError):
        return None
    return manifest if manifest is not None and is_of(manifest, name) else None
