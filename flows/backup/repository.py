"""Repositories of backups: the folder into which they are written, and each target to which they are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from blocks.target_store import Store, TargetAwayError, TargetError, Tell
from flows.backup.keyring import Keyring, Signature
from flows.backup.manifest import File, Manifest, Read, read_manifest
from flows.backup.names import BackupName, parse_name
from flows.backup.retention import prunable

_SUFFIXES = ("", ".json", ".globals.sql", ".filestore.tar.gz")


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup, and the sizes in bytes of those of its files that are there. Without a manifest it may not be ours."""

    name: BackupName
    sizes: Mapping[str, int]
    manifest: Manifest | None
    repository: Repository = field(repr=False)
    signature: Signature | None = Signature.UNSIGNED
    """Who signed the manifest; None where it is damaged or missing."""

    @property
    def size_bytes(self) -> int:
        """The dump's."""
        return self.sizes.get(self.name.dump, 0)

    @property
    def url(self) -> str:
        """Where its dump is."""
        return self.repository.url(self.name.dump)

    @property
    def verified(self) -> bool:
        """Whether it was verified when it was written, and all of it has its size. No bytes are read again."""
        return self.fault() is None

    @property
    def signed(self) -> bool:
        """Whether this room signed it, or one whose key it accepts: nobody without such a key has made it."""
        return self.signature in (Signature.OURS, Signature.KNOWN)

    @property
    def restorable(self) -> bool:
        """Whether its database can be restored, with all its files or without those that are lost."""
        return self.manifest is not None and self.sizes.get(self.name.dump) == self.manifest.size_bytes

    @property
    def lost(self) -> list[str]:
        """Its files besides the dump that are missing or not of their size."""
        companions = self.manifest.companions if self.manifest else []
        return [one.file for one in companions if self.sizes.get(one.file) != one.size_bytes]

    def fault(self, *, read_bytes: bool = False) -> str | None:
        """What is wrong with it, or None: by its sizes, or by all its bytes as well."""
        if self.signature is Signature.WRONG:
            return "forged: the signature of its manifest was not made with the key that it names"
        if self.manifest is None:
            return "manifest missing or altered"
        for one in self.manifest.files:
            size_differs = self.sizes.get(one.file) != one.size_bytes
            found = f"{one.file} does not have its {one.size_bytes} bytes" if size_differs else None
            if read_bytes and not size_differs:
                found = self._damage(one)
            if found:
                return found if one.file == self.name.dump else f"{found}; the database can be restored without it"
        return None

    def _damage(self, one: File) -> str | None:
        try:
            found = self.repository.store.sha256(one.file)
        except TargetError as error:
            return f"{one.file} cannot be read: {error.found}"
        return None if found == one.sha256 else f"{one.file} is damaged: its sha256 differs"


class Repository:
    """Backups at a target. One is there when its manifest is, which is sent last. All methods raise TargetError.

    Without a keyring, no backup counts as signed.
    """

    def __init__(self, store: Store, keyring: Keyring | None = None) -> None:
        self.store = store
        self.keyring = keyring

    def url(self, file: str) -> str:
        """Where a file is, as an operator is shown it."""
        return self.store.url(file)

    def backups(self, database: str | None = None) -> list[Backup]:
        """Those of exactly this database, or of all, oldest first of each."""
        sizes = self._sizes(f"{database}_" if database else "")
        found = [self._read(name, sizes) for name in self._names(sizes, database)]
        return [backup for backup in found if backup is not None]

    def best(self, database: str) -> Backup | None:
        """The one to restore: signed before unsigned, then good before one that lost files besides its dump, then new.

        Looks no further than needed.
        """
        sizes, found = self._sizes(f"{database}_"), list[Backup]()
        for name in reversed(self._names(sizes, database)):
            backup = self._read(name, sizes)
            if backup is not None and backup.restorable:
                if backup.signed and backup.verified:
                    return backup
                found.append(backup)
        return max(found, key=lambda one: (one.signed, one.verified), default=None)

    def find(self, name: BackupName) -> Backup | None:
        """The one of this name, good or not, or None where there is none."""
        sizes = self._sizes(name.dump)
        return self._read(name, sizes) if name in self._names(sizes, name.database) else None

    def remove(self, backup: Backup) -> None:
        """Delete it. What a crash leaves is not verified and goes the next time, or is the small manifest."""
        for file in _files_of(backup.name):
            if file in backup.sizes:
                self.store.delete(file)

    def prune(self, newest: BackupName, *, retention_days: int) -> list[str]:
        """Delete what is too old as seen from the newest, the only clock that is read; returns the dumps' names."""
        old = prunable(self.backups(newest.database), now=newest.created_at, retention_days=retention_days)
        for backup in old:
            self.remove(backup)
        return [backup.name.dump for backup in old]

    def fetch(self, backup: Backup, folder: Path, *, tell: Callable[[File], Tell]) -> None:
        """Copy its files, but its manifest and those that are lost, into a folder, no more bytes than it names.

        `tell` gets each file.
        """
        for one in backup.manifest.files if backup.manifest else ():
            if one.file in backup.lost:
                continue
            try:
                self.store.get(one.file, folder / one.file, tell=self._no_more_than(one, tell(one)))
            except TargetError:
                if one.file in self.store.sizes(one.file):
                    raise
                found = f"{self.url(one.file)} was deleted while the backup was fetched"
                raise TargetError(found, advice="choose another backup") from None

    def _no_more_than(self, file: File, tell: Tell) -> Tell:
        """Who can write at the target could fill this host's disk, whatever the listing said."""

        def told(done: int) -> None:
            if done > file.size_bytes:
                found = f"{self.url(file.file)} has more than the {file.size_bytes} bytes of its manifest"
                raise TargetError(found, advice="choose another backup, and see who writes there")
            tell(done)

        return told

    def receive(self, name: BackupName, folder: Path, *, tell: Callable[[File], Tell]) -> int:
        """Copy a backup from a folder, its manifest last, each file compared when it arrived; returns its bytes.

        `tell` gets each file. What fails leaves nothing of this call behind.
        """
        path = folder / name.manifest
        written = path.read_bytes() if path.is_file() else b""
        manifest, _ = read_manifest(written, name, self.keyring)
        if manifest is None:
            raise TargetError(f"{path} is not as it was written", advice="the backup was not copied; make a new one")
        own = File(file=name.manifest, size_bytes=len(written), sha256=hashlib.sha256(written).hexdigest())
        files, sent = [*manifest.files, own], list[str]()
        try:
            for one in files:
                if self.store.put(folder / one.file, sha256=one.sha256, tell=tell(one)):
                    sent.append(one.file)
        except BaseException:
            for file in reversed(sent):
                with suppress(TargetError):
                    self.store.delete(file)
            raise
        return sum(one.size_bytes for one in files)

    def lacks(self, folder: Repository, newest: BackupName, *, retention_days: int) -> list[BackupName]:
        """The good backups of the folder that are not here and would be kept, the newest first."""
        here = [backup for backup in self.backups(newest.database) if backup.verified]
        names = {backup.name for backup in here}
        lacking = [one for one in folder.backups(newest.database) if one.verified and one.name not in names]
        old = prunable([*here, *lacking], now=newest.created_at, retention_days=retention_days)
        going = {one.name for one in old}
        return [one.name for one in reversed(lacking) if one.name not in going]

    def clear_unfinished(self, folder: Path, *, keep: BackupName) -> list[str]:
        """Remove what killed copies of the database of `keep` left; returns the names of the files.

        Besides what is incomplete, that is a file without a manifest beside it of a backup that the folder knows: it
        was sent from here. Runs on one database exclude each other, so none of them is being sent now.
        """

        def ours(file: str) -> bool:
            name = _name_of(file)
            return name is not None and name.database == keep.database

        removed = self.store.drop_unfinished(ours)
        sizes = self.store.sizes(f"{keep.database}_")
        for file in filter(ours, sizes):
            name = _name_of(file)
            if name is not None and name != keep and name.manifest not in sizes and (folder / name.manifest).exists():
                self.store.delete(file)
                removed.append(file)
        return removed

    def _published(self, name: BackupName) -> str:
        """The file that gets its name last: by it the backup is there."""
        return name.manifest

    def _sizes(self, start: str) -> Mapping[str, int]:
        return self.store.sizes(start)

    def _names(self, files: Iterable[str], database: str | None) -> list[BackupName]:
        """Of the backups that are there, in order."""
        names = [name for file in files if (name := _name_of(file)) and self._published(name) == file]
        ours = [name for name in names if database in (None, name.database)]
        return sorted(ours, key=lambda name: (name.database, name.created_at))

    def _read(self, name: BackupName, sizes: Mapping[str, int]) -> Backup | None:
        """None for one that went since the sizes were taken: another run pruned it."""
        read = Read(None, None)
        if name.manifest in sizes:
            try:
                read = read_manifest(self.store.read(name.manifest), name, self.keyring)
            except TargetAwayError:
                raise
            except TargetError:
                if name.manifest not in self.store.sizes(name.manifest):
                    return None
        own = {file: sizes[file] for file in _files_of(name) if file in sizes}
        return Backup(name=name, sizes=own, manifest=read.manifest, repository=self, signature=read.signature)


def _files_of(name: BackupName) -> Iterable[str]:
    """In the order in which they are deleted: without its manifest the rest would be nobody's."""
    return (*name.companions, name.dump, name.manifest)


def _name_of(file: str) -> BackupName | None:
    """The backup that a file belongs to by its name, or None where it is nobody's."""
    names = [parse_name(file.removesuffix(suffix)) for suffix in _SUFFIXES]
    return next((name for name in names if name is not None and file in _files_of(name)), None)
