"""The attachments of an Odoo: the files of its filestore that rows of `ir_attachment` name."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from flows.backup.postgres import Connection

_RECORDED = 10_000  # names in a manifest
_PIECE_BYTES = 256 * 1024
_SHOWN = 3  # names in one message
_PATTERN = "^[0-9a-f]{2,3}/[0-9a-f]{40}$"
_NAME = re.compile(_PATTERN)
# Only of types whose output is not a function that somebody wrote, and of no child: a foreign table executes what
# another server says, with whatever login it names. A module may store elsewhere, under other names.
_TABLES = """
SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'store_fname' AND NOT a.attisdropped
WHERE c.relname = 'ir_attachment' AND c.relkind = 'r' AND n.nspname !~ '^pg_'
  AND a.atttypid IN ('pg_catalog.text'::regtype, 'pg_catalog.varchar'::regtype)
"""
_NAMES = "SELECT DISTINCT store_fname FROM ONLY {}.ir_attachment WHERE store_fname::pg_catalog.text ~ {}"


class Attachments(BaseModel):
    """How many files are named, and which of them production had lost or damaged itself, the first 10,000 of each."""

    model_config = ConfigDict(frozen=True)

    named: int = Field(ge=0)
    lost_count: int = Field(ge=0)
    lost: list[str]
    damaged_count: int = Field(ge=0)
    damaged: list[str]


@dataclass(frozen=True, slots=True)
class Faults:
    """Named files that are missing, and those whose SHA-1 is not their name, in order."""

    lost: list[str]
    damaged: list[str]

    def recorded(self, named: int) -> Attachments:
        """As a manifest holds them."""
        return Attachments(
            named=named,
            lost_count=len(self.lost),
            lost=self.lost[:_RECORDED],
            damaged_count=len(self.damaged),
            damaged=self.damaged[:_RECORDED],
        )


def read_names(db: Connection) -> set[str] | None:
    """The files that the database's rows name, as `xx/sha1`; None for a database that is not Odoo's."""
    schemas = [str(schema) for (schema,) in db.execute(_TABLES).fetchall()]
    if not schemas:
        return None
    found: set[str] = set()
    for schema in schemas:
        query = sql.SQL(_NAMES).format(sql.Identifier(schema), sql.Literal(_PATTERN))
        found.update(str(name) for (name,) in db.execute(query).fetchall())
    return {name for name in found if _NAME.fullmatch(name)}


def archived(archive: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of an archive, each readable until the next is asked for. Raises OSError, tarfile.TarError."""
    with tarfile.open(archive, mode="r|gz") as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isreg() else None
            if file is not None:
                yield member.name.removeprefix("./"), file


def stored(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Those of the named files that are in a folder, each readable until the next is asked for. Follows no link."""
    for name in sorted(names):
        with suppress(OSError):
            handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                yield name, file


def find_faults(names: set[str], files: Iterable[tuple[str, IO[bytes]]]) -> Faults:
    """Read those of the files that are named, and compare each with its name."""
    missing, damaged = set(names), []
    for name, file in files:
        if name in missing:
            missing.discard(name)
            if _sha1(file) != name.rpartition("/")[2]:
                damaged.append(name)
    return Faults(lost=sorted(missing), damaged=sorted(damaged))


def differing_attachments(expected: Attachments, names: set[str], files: Iterable[tuple[str, IO[bytes]]]) -> list[str]:
    """Phrases for named files that are missing or damaged, but were not so in production when it was backed up."""
    faults = find_faults(names, files)
    found = faults.recorded(len(names))
    if found == expected:
        return []
    wrong = [f"attachment {name} is missing" for name in faults.lost if name not in set(expected.lost)]
    wrong += [
        f"attachment {name} is damaged: its SHA-1 differs"
        for name in faults.damaged
        if name not in set(expected.damaged)
    ]
    return wrong or [
        f"of {found.named} attachments {found.lost_count} are missing and {found.damaged_count} damaged, instead of "
        f"{expected.lost_count} and {expected.damaged_count} of {expected.named}"
    ]


def _sha1(file: IO[bytes]) -> str:
    sha1 = hashlib.sha1(usedforsecurity=False)
    while piece := file.read(_PIECE_BYTES):
        sha1.update(piece)
    return sha1.hexdigest()


def shown_names(names: list[str]) -> str:
    """The first names, for a message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
