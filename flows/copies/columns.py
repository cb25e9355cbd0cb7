"""What a database has in schema public: its tables, and what their columns can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from flows.backup.postgres import Connection

Kind = Literal["text", "texts", "bytea", "json", "bool", ""]
"""What a column holds, also as a domain over it: `text` of any type of strings, `texts` an array of them."""
_COLUMNS = """
WITH RECURSIVE base (type, plain, required) AS (
    SELECT oid, oid, false FROM pg_catalog.pg_type WHERE typtype <> 'd'
    UNION ALL SELECT t.oid, plain, required OR typnotnull
    FROM pg_catalog.pg_type t JOIN base ON t.typbasetype = base.type WHERE typtype = 'd'
)
SELECT c.relname, c.relkind IN ('r', 'p'), a.attname, a.attnotnull OR base.required,
    pg_catalog.format_type(a.atttypid, a.atttypmod), CASE
    WHEN a.attgenerated <> '' THEN ''
    WHEN plain IN ('json'::regtype, 'jsonb'::regtype) THEN 'json'
    WHEN plain = 'bytea'::regtype THEN 'bytea'
    WHEN t.typcategory = 'B' THEN 'bool'
    WHEN t.typcategory = 'S' THEN 'text'
    WHEN element.typcategory = 'S' THEN 'texts' ELSE '' END
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN base ON base.type = a.atttypid
LEFT JOIN pg_catalog.pg_type t ON t.oid = plain
LEFT JOIN pg_catalog.pg_type element ON element.oid = t.typelem AND t.typcategory = 'A'
WHERE c.relnamespace = 'public'::pg_catalog.regnamespace AND c.relkind NOT IN ('i', 'I', 'S', 't')
ORDER BY c.relname, a.attnum
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    kind: Kind = ""
    """Empty for one that can hold neither a secret nor a switch."""
    required: bool = False
    type: str = "text"
    """As SQL has it, with its length or scale."""


Columns = Mapping[str, Mapping[str, Column] | None]
"""The columns of each table; None for a view, or a table of another server: to read one executes what it says."""


def read_columns(db: Connection) -> Columns:
    """The columns of what is in schema public."""
    found: dict[str, dict[str, Column] | None] = {}
    for table, plain, column, required, shown, kind in db.execute(_COLUMNS.encode()).fetchall():
        columns = found.setdefault(str(table), {} if plain else None)
        if columns is not None and column is not None:
            columns[str(column)] = Column(cast("Kind", str(kind)), bool(required), str(shown))
    return found
