"""The text that a recorded definition gets when a server reads it: what a restore makes of it, and nothing else.

A server shows `ANY ((ARRAY['a'::character varying])::text[])` of what somebody wrote as IN, and of that text it makes
`ANY (ARRAY[('a'::character varying)::text])`. So texts are not compared as they are: the recorded one is read by the
server of the restored database, on an empty copy of the table, in a transaction that is rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg.sql import Literal

from flows.backup.catalogs import GENERATED, POLICY
from flows.backup.inventory import Definition, unquoted
from flows.backup.pinned import encoded
from flows.backup.postgres import Connection

_NAME = "pg_temp.ops_copy"
_NAME_SHOWN = re.compile(r"pg_temp(_\d+)?\.ops_copy\b")
# CREATE OR REPLACE FUNCTION public."odd (name"(integer)
_FUNCTION = re.compile(r'(CREATE OR REPLACE (?:FUNCTION|PROCEDURE) )((?:"(?:[^"]|"")*"|[^"(])+)(?=\()')


@dataclass(frozen=True, slots=True)
class _Reading:
    """Statements that make an object of a recorded text, and a query of the text that it has then."""

    statements: tuple[str, ...]
    query: str
    shown: Callable[[str], str] = str


def read_again(db: Connection, kind: str, name: str, text: str, found: Definition) -> str | None:
    """The text that `text` gets on this server; None for a kind whose texts never change, or one that it refuses.

    `found` is the object as it was restored. Whatever functions the text names run with the rights of the role of `db`,
    which must have none that their owner lacks.
    """
    for reading in _readings(kind, name, text, found):
        try:
            with db.transaction(force_rollback=True):
                for statement in reading.statements:
                    # prepared: one statement, whatever the text says
                    db.execute(encoded(db, statement), prepare=True)
                row = db.execute(encoded(db, reading.query)).fetchone()
        except (psycopg.Error, UnicodeError):
            continue
        return reading.shown(str(row[0])) if row else None
    return None


def _readings(kind: str, name: str, text: str, found: Definition) -> list[_Reading]:  # noqa: PLR0911 - one for each kind
    of, copy = found.of, f"CREATE TEMP TABLE ops_copy (LIKE {found.of})"
    match kind:
        case "constraint":
            return [
                _Reading((copy, f"ALTER TABLE {_NAME} ADD CONSTRAINT ops_c {text}"), _constraint("conrelid", _NAME)),
                # a whole row has the type of its own table only
                _Reading((f"ALTER TABLE {of} ADD CONSTRAINT ops_c {text} NOT VALID",), _constraint("conrelid", of)),
            ]
        case "domain constraint":
            add = f"ALTER DOMAIN {_NAME} ADD CONSTRAINT ops_c {text}"
            return [_Reading((f"CREATE DOMAIN {_NAME} AS {of}", add), _constraint("contypid", _NAME))]
        case "index":
            head, using, rest = text.partition("USING ")
            make = f"CREATE INDEX ops_i ON {_NAME} {using}{rest}"
            query = "SELECT pg_get_indexdef('pg_temp.ops_i'::regclass)"
            return [_Reading((copy, make), query, lambda shown: head + using + shown.partition(" USING ")[2])]
        case "query":
            return [_Reading((f"CREATE VIEW {_NAME} AS {text}",), f"SELECT pg_get_viewdef('{_NAME}'::regclass)")]
        case "default":
            column = name.removeprefix(f"{unquoted(of)}.")
            column = column if column.startswith('"') else f'"{column}"'
            add = f"ALTER TABLE {_NAME} ALTER COLUMN {column} SET DEFAULT {text}"
            query = f"SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = '{_NAME}'::regclass"  # noqa: S608 - a constant
            return [_Reading((copy, add), query)]
        case "generated column":
            query = f"SELECT {GENERATED} WHERE a.attrelid = '{_NAME}'::regclass"
            return [_Reading((copy, f"ALTER TABLE {_NAME} ADD COLUMN ops_g {text}"), query)]
        case "policy":
            query = f"SELECT {POLICY} WHERE polrelid = '{_NAME}'::regclass"
            return [_Reading((copy, f"CREATE POLICY ops_p ON {_NAME} {text}"), query)]
        case "trigger" | "rule":
            return [_moved(kind, text, of)]
        case "function" if match := _FUNCTION.match(text):
            make = f"{match[1]}{_NAME}{text[match.end() :]}"
            query = f"SELECT pg_get_functiondef('{_NAME}'::regproc)"
            return [_Reading((make,), query, lambda shown: _NAME_SHOWN.sub(lambda _: match[2], shown, count=1))]
        case _:
            return []


def _constraint(column: str, of: str) -> str:
    typed = "regclass" if column == "conrelid" else "regtype"
    named = Literal(of).as_string()
    return (
        f"SELECT regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '') FROM pg_constraint"  # noqa: S608 - quoted
        f" WHERE {column} = {named}::{typed} AND conname = 'ops_c'"
    )


def _moved(kind: str, text: str, of: str) -> _Reading:
    """A trigger or a rule: its text begins with CREATE, after a letter where it is not simply enabled."""
    head, create, rest = text.partition("CREATE ")
    word = "ON" if kind == "trigger" else "TO"
    make = f"{create}{rest}".replace(f" {word} {of}", f" {word} {_NAME}", 1)
    catalog, relation, show = (
        ("pg_trigger", "tgrelid", "pg_get_triggerdef")
        if kind == "trigger"
        else ("pg_rewrite", "ev_class", "pg_get_ruledef")
    )
    return _Reading(
        (f"CREATE TEMP TABLE ops_copy (LIKE {of})", make),
        f"SELECT {show}(oid) FROM {catalog} WHERE {relation} = '{_NAME}'::regclass",  # noqa: S608 - constants
        lambda shown: head + _NAME_SHOWN.sub(lambda _: of, shown, count=1),
    )
