"""What a database consists of besides rows: every object by kind and name, with its definition."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, TypeAdapter

from flows.backup import catalogs, grants
from flows.backup.postgres import Connection
from opsdb.errors import StepFailedError

_TEXTS = TypeAdapter(dict[str, dict[str, str]])
_KEY_WORD = re.compile(r'"([a-z_][a-z0-9_]*)"')
_MOST_BYTES = 256 * 1024 * 1024  # unpacked; 600 tables of Odoo take 2 MB


class GoneError(Exception):
    """What the snapshot of a database shows is gone, so that the server cannot tell what it was."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The text of an object, and the relation or the type that it belongs to, or ''."""

    text: str
    of: str = ""


Objects = Mapping[str, Mapping[str, Definition]]
"""Definitions by kind and name."""

KINDS = {
    "schema": catalogs.SCHEMAS,
    "table": catalogs.TABLES.format(kinds="'r', 'p'"),
    "foreign table": catalogs.TABLES.format(kinds="'f'"),
    "view": catalogs.TABLES.format(kinds="'v'"),
    "materialized view": catalogs.TABLES.format(kinds="'m'"),
    "column": catalogs.COLUMNS,
    "default": catalogs.DEFAULTS,
    "generated column": catalogs.GENERATED_COLUMNS,
    "constraint": catalogs.CONSTRAINTS,
    "domain constraint": catalogs.DOMAIN_CONSTRAINTS,
    "index": catalogs.INDEXES,
    "query": catalogs.VIEWS,
    "rule": catalogs.RULES,
    "trigger": catalogs.TRIGGERS,
    "policy": catalogs.POLICIES,
    "sequence": catalogs.SEQUENCES,
    "type": catalogs.TYPES,
    "function": catalogs.FUNCTIONS,
    "function of an extension": catalogs.MEMBERS,
    "comment": catalogs.COMMENTS,
    **catalogs.OTHERS,
}
ROLES = {
    "owner": grants.OWNERS,
    "privileges": grants.PRIVILEGES,
    "default privileges": grants.DEFAULT_PRIVILEGES,
    "roles of policy": grants.POLICY_ROLES,
}


class Inventory(BaseModel):
    """The objects of a database, as a manifest holds them: how many of each kind, and all of them packed.

    `packed` is JSON of kind, name and text, deflated, in base 85: 600 tables of Odoo take 150 kB. `unread` are kinds
    that could not be read while the database was dumped.
    """

    model_config = ConfigDict(frozen=True)

    counts: dict[str, int]
    packed: str
    unread: list[str] = []

    @classmethod
    def of(cls, objects: Objects) -> Inventory:
        """Pack what was found of each kind; a missing kind was not read."""
        texts = {kind: {name: one.text for name, one in found.items()} for kind, found in objects.items() if found}
        plain = json.dumps(texts, sort_keys=True, separators=(",", ":"))
        packed = base64.b85encode(zlib.compress(plain.encode(), 9)).decode()
        unread = sorted((KINDS | ROLES).keys() - objects.keys())
        return cls(counts={kind: len(found) for kind, found in texts.items()}, packed=packed, unread=unread)

    def texts(self) -> dict[str, dict[str, str]]:
        """Definitions by kind and name. Raises StepFailedError for what of() has not packed."""
        try:
            return _TEXTS.validate_json(_inflated(base64.b85decode(self.packed)))
        except (ValueError, zlib.error) as error:
            said = str(error).splitlines()[0]
            raise StepFailedError(
                f"the manifest's list of objects cannot be unpacked: {said}. Choose another backup"
            ) from error


def read_objects(db: Connection) -> dict[str, dict[str, Definition]]:
    """All objects of the database, by kind. `db` has the settings of pin_settings()."""
    return {kind: read_kind(db, kind) for kind in (*KINDS, *ROLES)}


def read_kind(db: Connection, kind: str) -> dict[str, Definition]:
    """The objects of one kind. What had to be locked to show them is let go of afterwards. Raises GoneError."""
    with db.transaction(force_rollback=True):
        rows = db.execute((KINDS | ROLES)[kind].encode()).fetchall()
    if any(name is None or text is None for name, _, text in rows):
        raise GoneError("something of it was dropped meanwhile")
    return {unquoted(str(name)): Definition(_text(text), str(of or "")) for name, of, text in rows}


def unquoted(text: str) -> str:
    """Names without the quotes that they have only because they are key words, which differ between versions."""
    return _KEY_WORD.sub(r"\1", text)


def _inflated(packed: bytes) -> bytes:
    inflate = zlib.decompressobj()
    plain = inflate.decompress(packed, _MOST_BYTES)
    if not inflate.eof:
        raise ValueError("it is cut off, or larger than that of any database")
    return plain


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
