"""The manifest of a backup: what stands beside the dump and says that it was verified."""

from __future__ import annotations

import hashlib
import re
from typing import Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.backup.attachments import Attachments
from flows.backup.extensions import Extension
from flows.backup.inventory import Inventory
from flows.backup.keyring import KEY_ID, Key, Keyring, Signature
from flows.backup.names import DATABASE_PATTERN, BackupName
from flows.backup.properties import Properties

_MOST = 2**63 - 1
"""What a number may be: anybody can write an unsigned manifest, and larger ones break arithmetic."""
_CHECKSUM = '  "checksum": "'
_SIGNED = re.compile(rf'(.*,\n  "signed_by": "({KEY_ID})",\n)  "signature": "([0-9a-f]{{64}})",\n', re.DOTALL)


class File(BaseModel):
    """A file of a backup, as it was written."""

    model_config = ConfigDict(frozen=True)

    file: str
    size_bytes: int = Field(ge=0, le=_MOST)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    note: str = ""


class Locale(BaseModel):
    """The options of CREATE DATABASE for a database of the same encoding and order of texts."""

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
    """Where a sequence stands in the dump. Older rooms read it from the database before the dump and after it."""

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
    """The tables of a database by name, its sequences and its large objects.

    `uncounted` names what could not be counted while it was dumped: tables, and LARGE_OBJECTS.
    """

    model_config = ConfigDict(frozen=True)

    algorithm: Literal["hashtextextended"] = "hashtextextended"
    tables: dict[str, Rows]
    sequences: dict[str, SequenceValue]
    large_objects: Rows | None = None
    uncounted: list[str] = []

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

    From format 2 on it says in addition what the database held, and its last line is a checksum of all lines before.
    Format 3 is signed: the two lines before that are the key's id, and the signature of all lines above it. Which
    fields are there says nothing about the format: `ops backups sign` makes format 3 of the others. Of what objects the
    database consisted, and what belonged to it outside of it, older rooms did not record; `attachments` is of Odoo.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1, 2, 3] = 3
    database: str = Field(pattern=DATABASE_PATTERN)
    file: str
    created_at: AwareDatetime
    size_bytes: int = Field(ge=1, le=_MOST)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tables: int = Field(ge=0, description="Tables whose rows the dump holds.")
    server_version: str
    pg_dump_version: str
    run_id: str
    database_bytes: int | None = Field(
        None, ge=0, le=_MOST, description="Disk that the database took, with its indexes."
    )
    locale: Locale | None = None
    contents: Contents | None = None
    properties: Properties | None = None
    extensions: list[Extension] | None = None
    inventory: Inventory | None = None
    attachments: Attachments | None = None
    globals: File | None = None
    filestore: File | None = None

    @property
    def companions(self) -> list[File]:
        """The files of the backup besides its dump and this one."""
        return [one for one in (self.globals, self.filestore) if one is not None]

    @property
    def files(self) -> list[File]:
        """All files of the backup but this one, the dump first."""
        return [File(file=self.file, size_bytes=self.size_bytes, sha256=self.sha256), *self.companions]

    def text(self, key: Key) -> str:
        """The manifest as it is written into its file, signed."""
        signed = self.model_dump_json(indent=2, exclude_none=True).removesuffix("\n}")
        signed += f',\n  "signed_by": "{key.id}",\n'
        head = f'{signed}  "signature": "{key.sign(signed)}",\n'
        return head + _checksum_line(head)


class Read(NamedTuple):
    """What a manifest's file says, and who signed it."""

    manifest: Manifest | None
    """None for bytes that are not as they were written for this backup."""
    signature: Signature | None
    """None where the bytes were damaged."""


def _checksum_line(head: str) -> str:
    return f'{_CHECKSUM}{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


def read_manifest(written: bytes, name: BackupName, keyring: Keyring | None = None) -> Read:
    """The manifest of the backup of this name. Without a keyring, each key is unknown. Raises UsageError for a bad key.

    A wrong signature makes it none, as a wrong checksum does.
    """
    try:
        text = written.decode()
        manifest = Manifest.model_validate_json(text)
    except (UnicodeDecodeError, ValidationError):
        return Read(None, None)
    # else it was copied or renamed by hand
    told = (manifest.database, manifest.file, manifest.created_at)
    own = {one.file for one in manifest.companions} <= set(name.companions)
    signature = _judge(manifest.format, text, keyring)
    if not own or told != (name.database, name.dump, name.created_at) or signature is None:
        return Read(None, None)
    return Read(None if signature is Signature.WRONG else manifest, signature)


def _judge(number: int, text: str, keyring: Keyring | None) -> Signature | None:
    """Who signed the text of a manifest of this format; None where its checksum differs."""
    head, mark, tail = text.rpartition(_CHECKSUM)
    if number == 1:  # knows no checksum: where there is one, a bit of the number has changed
        return None if mark else Signature.UNSIGNED
    if mark + tail != _checksum_line(head):
        return None
    if number == 2:
        return Signature.UNSIGNED
    match = _SIGNED.fullmatch(head)
    if match is None:
        return None
    if keyring is None:
        return Signature.UNKNOWN_KEY
    return keyring.judge(match[1], key_id=match[2], signature=match[3])
