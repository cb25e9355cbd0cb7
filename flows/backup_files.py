"""The files of backups: what they are called, which are good, and which may go."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.database_contents import Contents

# No leading dash, dot or slash, and none of `=`, `:`, `/` or whitespace: pg_dump reads connection strings in --dbname.
# At most 63 bytes, PostgreSQL's limit.
DATABASE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"

KEPT_AT_LEAST = 3
"""Verified backups of a database that stay whatever their age: what is wrong with the newest may be noticed late."""

FETCHED = re.compile(r"\.fetched-[0-9a-f-]{36}")
"""What the folder is called into which a run fetches a backup, within the folder of backups."""

_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(rf"({DATABASE_PATTERN.strip('^$')})_([0-9]{{8}}T[0-9]{{6}}Z)\.dump")
_MANIFEST_BYTES = 16 * 1024 * 1024
_CHECKSUM = '  "checksum": "'


@dataclass(frozen=True, slots=True)
class BackupName:
    """The names that belong to one backup: its database, and the second (UTC) in which it began."""

    database: str
    created_at: datetime

    @property
    def dump(self) -> str:
        """The dump's own name, which is there only when the dump is whole and its manifest is written."""
        return f"{self.database}_{self.created_at.astimezone(UTC).strftime(_TIME_FORMAT)}.dump"

    @property
    def manifest(self) -> str:
        """The manifest's."""
        return f"{self.dump}.json"

    @property
    def partial(self) -> str:
        """The dump's while it is written."""
        return partial_of(self.dump)

    @property
    def manifest_partial(self) -> str:
        """The manifest's while it is written."""
        return partial_of(self.manifest)

    @property
    def globals(self) -> str:
        """That of the roles and their settings."""
        return f"{self.dump}.globals.sql"

    @property
    def filestore(self) -> str:
        """That of Odoo's attachments."""
        return f"{self.dump}.filestore.tar.gz"

    @property
    def companions(self) -> tuple[str, ...]:
        """The files that a backup may have besides its dump and its manifest."""
        return (self.globals, self.filestore)


def partial_of(name: str) -> str:
    """What a file with this name is called while it is written."""
    return f".{name}.partial"


def parse_name(dump: str) -> BackupName | None:
    """The database and time of a dump's own name, or None when it is none of ours.

    The time has a fixed width, so `odoo_prod_20250101T000000Z.dump` is of `odoo_prod` and of no other database.
    """
    match = _NAME.fullmatch(dump)
    if match is None:
        return None
    try:
        created_at = datetime.strptime(match[2], _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:  # such as a month 13
        return None
    name = BackupName(match[1], created_at)
    return name if name.dump == dump else None


def parse_partial(partial: str) -> BackupName | None:
    """The same for the name of a dump that is being written."""
    if not (partial.startswith(".") and partial.endswith(".partial")):
        return None
    return parse_name(partial.removeprefix(".").removesuffix(".partial"))


class Companion(BaseModel):
    """A file that belongs to a backup besides its dump."""

    model_config = ConfigDict(frozen=True)

    file: str
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    note: str = ""


class Locale(BaseModel):
    """What CREATE DATABASE must be told for a database of the same encoding and order of texts."""

    model_config = ConfigDict(frozen=True)

    encoding: str
    provider: str
    collate: str
    ctype: str
    locale: str | None = None


class Manifest(BaseModel):
    """What stands beside a dump and says that it was verified. Sizes are bytes.

    Format 2 says in addition what the database held; its last line is a checksum of all lines before.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1, 2] = 2
    database: str = Field(pattern=DATABASE_PATTERN)
    file: str
    created_at: AwareDatetime
    size_bytes: int = Field(ge=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tables: int = Field(ge=0, description="Tables whose rows the dump holds.")
    server_version: str
    pg_dump_version: str
    run_id: str
    database_bytes: int | None = Field(None, ge=0, description="Disk that the database took, with its indexes.")
    locale: Locale | None = None
    contents: Contents | None = None
    globals: Companion | None = None
    filestore: Companion | None = None

    @property
    def companions(self) -> list[Companion]:
        """The other files of the backup."""
        return [one for one in (self.globals, self.filestore) if one is not None]

    def text(self) -> str:
        """The manifest as it is written into its file."""
        head = self.model_dump_json(indent=2, exclude_none=True).removesuffix("\n}") + ",\n"
        return head + _checksum_line(head)


def _checksum_line(head: str) -> str:
    return f'{_CHECKSUM}{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


def parse_manifest(text: str) -> Manifest | None:
    """The manifest that a text is, or None when it is not as it was written. Raises ValidationError for other text."""
    manifest = Manifest.model_validate_json(text)
    if manifest.format == 1:
        return manifest
    head, mark, tail = text.rpartition(_CHECKSUM)
    return manifest if mark + tail == _checksum_line(head) else None


def read_manifest(path: Path) -> Manifest | None:
    """The manifest at `path`, or None when there is none that can be read and is as it was written."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return parse_manifest(os.read(handle, _MANIFEST_BYTES).decode())
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    finally:
        os.close(handle)


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


def is_of(manifest: Manifest, name: BackupName) -> bool:
    """Whether it was written for the backup of this name, and not copied or renamed by hand."""
    if (manifest.database, manifest.file, manifest.created_at) != (name.database, name.dump, name.created_at):
        return False
    return {one.file for one in manifest.companions} <= set(name.companions)


class Kept(Protocol):
    """A backup wherever it lies."""

    @property
    def name(self) -> BackupName:
        """Its database and time."""

    @property
    def manifest(self) -> Manifest | None:
        """What makes it ours."""

    @property
    def verified(self) -> bool:
        """Whether it was verified when it was made, and all of it still has its size."""


B = TypeVar("B", bound=Kept)


def prunable(backups: Iterable[B], *, now: datetime, retention_days: int, keep_at_least: int = 1) -> list[B]:
    """Those of one database's backups that may be deleted, oldest first.

    That is what has a manifest and is older than `retention_days` at `now`, but never one of the `keep_at_least`
    newest verified ones, and nothing at all where there are fewer: a damaged dump may then be the best there is.
    """
    if retention_days < 1 or keep_at_least < 1:
        raise ValueError("retention_days and keep_at_least must be 1 or more")
    ours = sorted((one for one in backups if one.manifest is not None), key=lambda one: one.name.created_at)
    verified = [one for one in ours if one.verified]
    if len(verified) < keep_at_least:
        return []
    kept = {one.name for one in verified[-keep_at_least:]}
    limit = now - timedelta(days=retention_days)
    return [one for one in ours if one.name.created_at < limit and one.name not in kept]


def remove(backup: Backup) -> None:
    """Delete a backup. What a crash leaves is not verified and goes the next time, or is the small manifest."""
    for companion in backup.name.companions:
        (backup.folder / companion).unlink(missing_ok=True)
    backup.path.unlink(missing_ok=True)
    (backup.folder / backup.name.manifest).unlink(missing_ok=True)
