"""The manifest of a backup: what stands beside the dump and says that it was verified."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.backup.names import DATABASE_PATTERN, BackupName

_MANIFEST_BYTES = 16 * 1024 * 1024
_CHECKSUM = '  "checksum": "'


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


class Rows(BaseModel):
    """How many, and the sum of their 64-bit hashes: in whatever order they are read, it is the same."""

    model_config = ConfigDict(frozen=True)

    rows: int = Field(ge=0)
    hash: str = Field(pattern=r"^[0-9a-f]{16}$")


class SequenceValue(BaseModel):
    """Where a sequence stands. Sequences know no snapshot: they are read before the dump and after it."""

    model_config = ConfigDict(frozen=True)

    before: tuple[int, bool]
    after: tuple[int, bool]

    def allows(self, found: tuple[int, bool]) -> bool:
        """Whether a dump made between the two readings can hold `found`."""
        if self.before == self.after:
            return found == self.before
        low, high = sorted((self.before[0], self.after[0]))
        return low <= found[0] <= high


class Contents(BaseModel):
    """The tables of a database by name, its sequences and its large objects."""

    model_config = ConfigDict(frozen=True)

    algorithm: Literal["hashtextextended"] = "hashtextextended"
    tables: dict[str, Rows]
    sequences: dict[str, SequenceValue]
    large_objects: Rows

    @classmethod
    def empty(cls) -> Contents:
        """Of a database with nothing in it."""
        return cls(tables={}, sequences={}, large_objects=Rows(rows=0, hash="0" * 16))

    @property
    def rows(self) -> int:
        """All tables' rows."""
        return sum(table.rows for table in self.tables.values())


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


def is_of(manifest: Manifest, name: BackupName) -> bool:
    """Whether it was written for the backup of this name, and not copied or renamed by hand."""
    if (manifest.database, manifest.file, manifest.created_at) != (name.database, name.dump, name.created_at):
        return False
    return {one.file for one in manifest.companions} <= set(name.companions)
