"""The table of contents of a dump in pg_dump's custom format, read as PostgreSQL's `pg_backup_archiver.c` writes it.

`pg_restore --list` shows the same, but a name with a blank in it could stand for two things there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from flows.backup.pinned import codec_of, decoded
from opsdb.errors import StepFailedError

_OLDEST, _NEWEST = (1, 14), (1, 16)  # of PostgreSQL 12 and 18
_CUSTOM = 1
_MOST_ENTRIES = 10_000_000
_EXTENSION_SCHEMA = re.compile(r' WITH SCHEMA ("(?:[^"]|"")+"|[a-z_0-9$]+);')
_SETVAL = re.compile(r", (-?\d+), (true|false)\);\s*$")
_PLAIN = re.compile("[a-z_][a-z0-9_]*")
_ENCODING = re.compile(r"SET client_encoding = '(\w+)'")

# Made by nobody but a superuser, and nothing else in a dump needs them.
_APART = {"EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"}
# Made by nobody but a superuser, and other things may need them.
_OF_SUPERUSERS = {
    "ACCESS METHOD",
    "FOREIGN DATA WRAPPER",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "SHELL TYPE",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
}
_TRUSTED_LANGUAGES = {"sql", "plpgsql", "plperl", "pltcl", "plv8"}
_LANGUAGE = re.compile(r'\n    LANGUAGE "?(\w+)"?(?: (.*))?')


@dataclass(frozen=True, slots=True)
class TocEntry:
    """One thing in a dump. Empty texts where the dump has none."""

    id: int
    kind: str
    """As pg_restore --list shows it: TABLE, ACL, EXTENSION."""
    schema: str
    name: str
    owner: str
    definition: str
    drop: str

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.kind} {self.schema + '.' if self.schema else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Archive:
    """What a dump holds."""

    entries: Sequence[TocEntry]

    def of(self, *kinds: str) -> list[TocEntry]:
        """The entries of these kinds, in the dump's order."""
        return [one for one in self.entries if one.kind in kinds]

    @property
    def extensions(self) -> dict[str, str]:
        """Each extension with its schema."""
        found = {}
        for one in self.of("EXTENSION"):
            match = _EXTENSION_SCHEMA.search(one.definition)
            schema = match[1] if match else "public"
            found[one.name] = schema[1:-1].replace('""', '"') if schema.startswith('"') else schema
        return found

    @property
    def sequences(self) -> dict[str, tuple[int, bool]]:
        """The last value of each sequence, and whether it was given out, by qualified name."""
        matches = {_qualified(one): _SETVAL.search(one.definition) for one in self.of("SEQUENCE SET")}
        return {name: (int(match[1]), match[2] == "true") for name, match in matches.items() if match}

    @property
    def apart(self) -> list[TocEntry]:
        """What only a superuser may make, and nothing else in the dump needs."""
        return self.of(*_APART)

    @property
    def of_superusers(self) -> list[TocEntry]:
        """What only a superuser may make, and other things in the dump may need."""
        return [one for one in self.entries if _needs_superuser(one)]


def read_archive(file: IO[bytes]) -> Archive:
    """Read the table of contents. Raises StepFailedError for what is no such dump, or a newer format."""
    try:
        return Archive(list(_entries(_Reader(file))))
    except (EOFError, ValueError) as error:
        raise StepFailedError(f"the dump's table of contents cannot be read: {error}") from error


def _qualified(one: TocEntry) -> str:
    """As a server's `%I.%I` shows it, but for key words."""
    return f"{_identifier(one.schema)}.{_identifier(one.name)}"


def _identifier(name: str) -> str:
    escaped = name.replace('"', '""')
    return name if _PLAIN.fullmatch(name) else f'"{escaped}"'


def _needs_superuser(one: TocEntry) -> bool:
    if one.kind in _OF_SUPERUSERS:
        return True
    if one.kind == "TYPE":
        return "\n    INPUT = " in one.definition
    if one.kind == "CAST":
        return " WITHOUT FUNCTION" in one.definition
    if one.kind in ("FUNCTION", "PROCEDURE"):
        match = _LANGUAGE.search(one.definition)  # pg_dump writes it before the body
        return match is not None and (match[1] not in _TRUSTED_LANGUAGES or " LEAKPROOF" in f" {match[2] or ''}")
    return False


def _entries(reader: _Reader) -> list[TocEntry]:
    raw = [_entry(reader) for _ in range(reader.count())]
    codec = "utf-8"
    for one in raw:
        match = _ENCODING.search(one[5].decode("ascii", "replace")) if one[1] == b"ENCODING" else None
        if match:
            codec = codec_of(match[1])
    return [TocEntry(one[0], *(decoded(part, codec) for part in one[1:])) for one in raw]


def _entry(reader: _Reader) -> tuple[int, bytes, bytes, bytes, bytes, bytes, bytes]:
    number = reader.integer()
    reader.integer()  # whether it has data
    reader.text(), reader.text()  # the oids that it had
    name, kind = reader.text(), reader.text()
    reader.integer()  # section
    definition, drop = reader.text(), reader.text()
    reader.text()  # COPY statement
    schema = reader.text()
    reader.text(), reader.text()  # tablespace, access method
    if reader.version >= (1, 16):
        reader.integer()  # kind of relation
    owner = reader.text()
    reader.text()  # WITH OIDS
    while reader.optional() is not None:
        pass  # what it depends on
    reader.skip_offset()
    return number, kind or b"", schema or b"", name or b"", owner or b"", definition or b"", drop or b""


class _Reader:
    """Numbers and texts of an archive, after its head."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        magic, major, minor, _ = self._bytes(5), self._byte(), self._byte(), self._byte()
        self.version = (major, minor)
        self._integer_bytes, self._offset_bytes, form = self._byte(), self._byte(), self._byte()
        if magic != b"PGDMP" or form != _CUSTOM:
            raise ValueError("it is not a dump in pg_dump's custom format")
        if not _OLDEST <= self.version <= _NEWEST:
            raise ValueError(f"its format is {major}.{minor}, and this version of the room reads 1.14 to 1.16")
        _ = self._byte() if self.version >= (1, 15) else self.integer()  # compression
        for _ in range(7):
            self.integer()  # time
        for _ in range(3):
            self.text()  # database, versions

    def count(self) -> int:
        """The number of entries."""
        number = self.integer()
        if not 0 <= number <= _MOST_ENTRIES:
            raise ValueError(f"it has {number} entries")
        return number

    def integer(self) -> int:
        """A whole number with its sign."""
        negative = self._byte()
        number = int.from_bytes(self._bytes(self._integer_bytes), "little")
        return -number if negative else number

    def optional(self) -> bytes | None:
        """A text, or None."""
        length = self.integer()
        return None if length < 0 else self._bytes(length)

    def text(self) -> bytes:
        """A text, empty where there is none."""
        return self.optional() or b""

    def skip_offset(self) -> None:
        """Pass over where an entry's data begin."""
        self._bytes(1 + self._offset_bytes)

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, length: int) -> bytes:
        found = self._file.read(length)
        if len(found) < length:
            raise EOFError("it ends too early")
        return found


def use_list(entries: Sequence[TocEntry]) -> bytes:
    """A list for `pg_restore --use-list` with these entries alone."""
    out = io.StringIO()
    for one in entries:
        out.write(f"{one.id}; 0 0\n")
    return out.getvalue().encode()
