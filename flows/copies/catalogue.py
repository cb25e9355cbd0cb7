"""The columns of a source, as far as rules for anonymising ask for them: out of an inventory, or of a database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import psycopg
from psycopg import sql

from flows.backup.inventory import read_kind
from flows.backup.pinned import encoded
from flows.backup.postgres import Connection

KINDS = ("table", "column", "constraint", "type", "index")
"""What is read of a catalogue, by the names of an inventory."""
_NAME = r'(?:"(?:[^"]|"")+"|[^\s".,()]+)'
_NAMES = re.compile(_NAME)
_COLUMN = re.compile(
    r"(?P<type>.+?)(?: COLLATE \S+)?(?P<required> NOT NULL)?(?: IDENTITY (?P<identity>ALWAYS|BY DEFAULT))?"
    r"(?P<computed> STORED| VIRTUAL)?(?: STORAGE \S+)?"
)
_KEY = re.compile(rf"(?:UNIQUE|PRIMARY KEY)(?: NULLS NOT DISTINCT)? \(({_NAME})\)")
_FOREIGN = re.compile(r"FOREIGN KEY \(([^)]*)\)")
_UNIQUE_INDEX = re.compile(r"UNIQUE .*?USING \w+ \((.*)", re.DOTALL)
_IN_INDEX = re.compile(rf"'(?:[^']|'')*'|(?P<name>{_NAME})|.", re.DOTALL)
_INHERITS = re.compile(rf"INHERITS ((?:(?:, )?{_NAME}\.{_NAME})+)")
_TEXT = re.compile(r"(?:text|character varying|character|bpchar)(?:\((\d+)\))?")
_LABEL = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule must know of its column."""

    type: str
    """As it is shown, without a domain of its own."""
    required: bool = False
    generated: str = ""
    """Why nothing can be written into it, behind `the column is`; empty for a column of values."""
    unique: bool = False
    foreign: bool = False
    labels: tuple[str, ...] | None = None
    """Those of an enum."""

    @property
    def kind(self) -> Literal["text", "json", "other"]:
        if self.type in ("json", "jsonb"):
            return "json"
        own = "." in self.type and self.labels is None and not self.type.endswith("]")  # of an extension: citext
        return "text" if own or _TEXT.fullmatch(self.type) else "other"

    @property
    def longest(self) -> int | None:
        """How many characters a text may have."""
        match = _TEXT.fullmatch(self.type)
        return int(match[1]) if match and match[1] else None


@dataclass(slots=True)
class Catalogue:
    """Tables and columns by their names, without quotes."""

    tables: set[str] = field(default_factory=set)
    columns: dict[tuple[str, str], Facts] = field(default_factory=dict)
    """Also those of views, and of all else that is not a table."""
    _parents: set[str] = field(default_factory=set)
    _count: Callable[[str], int | None] = lambda _table: None

    @classmethod
    def of(
        cls,
        texts: Mapping[str, Mapping[str, str]],
        indexes: Iterable[tuple[str, str]],
        count: Callable[[str], int | None] = lambda _table: None,
    ) -> Catalogue:
        """Of definitions by kind and name, as an inventory has them, and of indexes with their tables.

        `count` knows how many rows a table has, or None.
        """
        found = cls(_count=count)
        for name, text in texts.get("table", {}).items():
            schema, table = split_names(name, 2)
            if schema == "public":
                found.tables.add(table)
                found._parents |= {table} if " PARTITION BY " in f" {text}" else set()
            if match := _INHERITS.search(text):
                found._parents |= {split_names(parent, 2)[1] for parent in match[1].split(", ")}
        for name, text in texts.get("column", {}).items():
            schema, table, column = split_names(name, 3)
            match = _COLUMN.fullmatch(text)
            if schema == "public" and match is not None:
                facts = Facts(match["type"], required=bool(match["required"]), generated=_generated(match))
                found.columns[table, column] = _resolved(facts, texts.get("type", {}))
        for name, text in texts.get("constraint", {}).items():
            table = split_names(f"public.{name.rpartition(' on public.')[2]}", 2)[1]
            if match := _KEY.match(text):
                found._note(table, _unquoted(match[1]), unique=True)
            if match := _FOREIGN.match(text):
                for column in _NAMES.findall(match[1]):
                    found._note(table, _unquoted(column), foreign=True)
        for relation, text in indexes:
            schema, table = split_names(relation, 2)
            if schema == "public" and (match := _UNIQUE_INDEX.search(text)):
                keyed = [one for one in _only_key(match[1]) if (table, one) in found.columns]
                if len(keyed) == 1:
                    found._note(table, keyed[0], unique=True)
        return found

    @classmethod
    def read(cls, db: Connection) -> Catalogue:
        """That of a database. `db` has the settings of pin_settings()."""
        kinds = {kind: read_kind(db, kind) for kind in KINDS}
        texts = {kind: {name: one.text for name, one in found.items()} for kind, found in kinds.items()}
        indexes = [(one.of, one.text) for one in kinds["index"].values()]
        return cls.of(texts, indexes, lambda table: _counted(db, table))

    def rows(self, table: str) -> int | None:
        """How many rows a table has, where one or none makes a difference: 2 may stand for more.

        None where nobody knows, as for one that has rows in tables below it.
        """
        return None if table in self._parents else self._count(table)

    def _note(self, table: str, column: str, **changes: bool) -> None:
        if (facts := self.columns.get((table, column))) is not None:
            self.columns[table, column] = replace(facts, **changes)  # type: ignore[arg-type]


def _counted(db: Connection, table: str) -> int | None:
    query = sql.SQL("SELECT count(*) FROM (SELECT FROM ONLY {} LIMIT 2) AS first_two").format(
        sql.Identifier("public", table)
    )
    try:
        with db.transaction(force_rollback=True):
            row = db.execute(encoded(db, query.as_string(None))).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return int(str(row[0])) if row else None


def _generated(match: re.Match[str]) -> str:
    if match["identity"] == "ALWAYS":
        return "an identity, into which nothing can be written"
    return "generated. Name the columns that it is made of" if match["computed"] else ""


def split_names(name: str, parts: int) -> list[str]:
    """The names in a qualified one, without their quotes; empty ones for a text that has more or fewer of them."""
    found = [_unquoted(one) for one in _NAMES.findall(name)]
    return found if len(found) == parts else [""] * parts


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _only_key(text: str) -> list[str]:
    """The names in the only key of an index, which may be an expression; none where it has several keys."""
    depth, names = 1, list[str]()
    for match in _IN_INDEX.finditer(text):
        part = match[0]
        depth += {"(": 1, ")": -1}.get(part, 0)
        if depth == 0:
            break
        if depth == 1 and part == ",":
            return []
        if match["name"] and not text.startswith("(", match.end()):  # else a function's
            names.append(_unquoted(part))
    return list(dict.fromkeys(names))


def _resolved(facts: Facts, types: Mapping[str, str]) -> Facts:
    """A domain stands for its type, and an enum has its labels."""
    text = types.get(facts.type, "")
    if text.startswith("e ENUM "):
        return replace(facts, labels=tuple(label.replace("''", "'") for label in _LABEL.findall(text)))
    if text.startswith("d "):
        base = text.removeprefix("d ")
        required = facts.required or base.endswith(" NOT NULL")
        return _resolved(replace(facts, type=base.removesuffix(" NOT NULL"), required=required), types)
    return facts
