"""The folder of backups on this host: where they are written, and from where they are restored."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from blocks.target_folder import FolderStore
from flows.backup.keyring import Keyring, Signature, room_keyring
from flows.backup.manifest import Manifest
from flows.backup.names import BackupName
from flows.backup.repository import Backup, Repository
from flows.engine.active_run import current_run
from opsdb.errors import PreflightError, StepFailedError
from opsdb.places import refuse_backups, refuse_entry
from opsdb.trust import SAFE_FOLDER, who_else_may_write

FETCHED = re.compile(r"\.fetched-[0-9a-f-]{36}")
"""What the folder is called into which a run fetches a backup, within the folder of backups."""
MARGIN_BYTES = 64 * 1024 * 1024


class Folder(Repository):
    """A repository whose files are read and written by programs of steps. A dump gets its name last, see Draft."""

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        super().__init__(FolderStore(path), keyring)
        self.path = path

    def url(self, file: str) -> str:
        """Its path."""
        return str(self.path / file)

    def prepare(self) -> None:
        """Make the folder, closed to others, unless it is there. Raises PreflightError."""
        try:
            for one in reversed([self.path, *self.path.parents]):
                if not os.path.lexists(one):
                    one.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise PreflightError(f"cannot make the backup folder {self.path}: {error.strerror}") from error
        self.check()

    def check(self) -> Path:
        """What is there of its path, as far as files can be written there, and by nobody else.

        Changes nothing. Raises PreflightError.
        """
        there = next(one for one in (self.path, *self.path.parents) if os.path.lexists(one))
        if not there.is_dir():
            raise PreflightError(f"cannot make the backup folder {self.path}: {there} is not a folder")
        if refusal := refuse_entry(self.path, write=True) or refuse_entry(there, write=True):
            raise PreflightError(f"the backup folder {self.path} cannot be used: {refusal}")
        if found := who_else_may_write(self.path):
            raise PreflightError(f"the backup folder {self.path} is not safe: {found}. Hint: {SAFE_FOLDER}")
        return there

    def written(self, name: BackupName, manifest: Manifest, *, manifest_bytes: int) -> Backup:
        """A backup as it is, or in a dry run would be, once it is published."""
        sizes = {one.file: one.size_bytes for one in manifest.files} | {name.manifest: manifest_bytes}
        return Backup(name=name, sizes=sizes, manifest=manifest, repository=self, signature=Signature.OURS)

    def _published(self, name: BackupName) -> str:
        return name.dump

    def _sizes(self, start: str) -> Mapping[str, int]:
        try:
            self.path.stat()
        except FileNotFoundError:  # nobody has made it yet
            return {}
        except OSError:
            pass  # the store says what is wrong
        return super()._sizes(start)


class OpenFiles:
    """The files of a backup in a folder, which can be read until the end of a `with` block, whoever deletes them.

    From open() on these are paths in this process's /proc folder, before that the files' own. An open file stays until
    it is closed, also on a disk that is read-only or knows no hard links, and nothing of it is left when this process
    is killed. Only a host that deletes it over NFS takes it away. Those that the backup has lost are not among them.
    """

    def __init__(self, backup: Backup, folder: Path) -> None:
        files = backup.manifest.files if backup.manifest else []
        self.paths = {one.file: str(folder / one.file) for one in files if one.file not in backup.lost}
        self._handles = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def open(self) -> None:
        """Raises StepFailedError for a file that is gone already."""
        for name, path in self.paths.items():
            handle = _open(path)
            self._handles.callback(os.close, handle)
            self.paths[name] = f"/proc/{os.getpid()}/fd/{handle}"

    def drop(self, files: Collection[str]) -> None:
        """Read these no more."""
        for file in files:
            del self.paths[file]


def backup_folder(named: str | None) -> Folder:
    """The folder that a run names, or the room's own. Raises PreflightError where runs may not work there."""
    settings = current_run().settings
    if named and (refusal := refuse_backups(Path(named), settings)):
        raise PreflightError(refusal)
    return Folder(Path(named) if named else settings.backups, room_keyring(settings))


def check_space(folder: Path, needed_bytes: Mapping[str, int], *, freed_bytes: int = 0) -> None:
    """The folder has room for all that is needed there, with what is freed before. Raises PreflightError."""
    free = shutil.disk_usage(folder).free + freed_bytes
    if free < sum(needed_bytes.values()) + MARGIN_BYTES:
        needed = ", ".join(f"{what} may need {megabytes(size)}" for what, size in needed_bytes.items() if size)
        raise PreflightError(
            f"{folder} has {megabytes(free)} free, {needed} and {megabytes(MARGIN_BYTES)} must stay: "
            "make room, or choose another folder"
        )


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1_000_000:,.0f} MB"


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StepFailedError(
            f"{path} is missing: the backup was deleted meanwhile, or never whole; choose another (`ops backups`)"
        ) from None
    except OSError as error:
        raise StepFailedError(
            f"{path} cannot be read: {error.strerror}; correct that, or choose another backup"
        ) from error
