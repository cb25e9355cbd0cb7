"""Owners and privileges of a backup's objects, given to the restored ones, which were made by one plain role.

Objects are named as the restored database names them, never by the text of a manifest: these statements may run with a
superuser's rights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from flows.backup.grants import RoleMap, with_roles
from flows.backup.inventory import ROLES, Definition, Inventory, Objects, read_objects, unquoted
from flows.backup.pinned import encoded
from flows.backup.postgres import Connection
from opsdb.errors import StepFailedError

_ALTERED = {  # as ALTER ... OWNER TO calls what pg_identify_object() calls otherwise
    "server": "SERVER",
    "statistics object": "STATISTICS",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
}
_GRANTED = {
    "table": "TABLE",
    "view": "TABLE",
    "materialized view": "TABLE",
    "foreign table": "TABLE",
    "sequence": "SEQUENCE",
    "function": "ROUTINE",
    "aggregate": "ROUTINE",
    "procedure": "ROUTINE",
    "type": "TYPE",
    "schema": "SCHEMA",
    "language": "LANGUAGE",
    "server": "FOREIGN SERVER",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
}
_BY_DEFAULT = {"r": "TABLES", "S": "SEQUENCES", "f": "ROUTINES", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}

Wanted = Mapping[str, Mapping[str, str]]


def give_back(db: Connection, inventory: Inventory, roles: RoleMap) -> list[str]:
    """Give the objects of `db` the owners and privileges of the inventory; returns phrases for what is refused.

    `roles` are those that stand for others; what one owned that is left out stays as it is, what it might do is gone.
    """
    texts, refused = inventory.texts(), list[str]()
    wanted = {kind: {name: with_roles(text, roles) for name, text in texts.get(kind, {}).items()} for kind in ROLES}
    found = read_objects(db)
    for name, statement in _statements(db, wanted, found):
        try:
            with db.transaction():
                db.execute(encoded(db, statement.as_string(None)))
        except psycopg.Error as error:
            refused.append(f"{name}: {str(error).strip().splitlines()[0]}")
    return refused


def _statements(db: Connection, wanted: Wanted, found: Objects) -> Iterator[tuple[str, sql.Composed]]:
    for name, text in wanted["owner"].items():
        for statement in _owner(name, text, found):
            yield name, statement
    for name, text in wanted["privileges"].items():
        for statement in _privileges(db, name, text, wanted, found):
            yield name, statement
    for name, text in wanted["default privileges"].items():
        for statement in _default_privileges(name, text):
            yield name, statement
    for name, text in wanted["roles of policy"].items():
        for statement in _policy_roles(name, text, found):
            yield name, statement


def _owner(name: str, text: str, found: Objects) -> Iterator[sql.Composed]:
    now = found["owner"].get(name)
    follows_its_table = " OF " in _at(found, "sequence", name.removeprefix("sequence ")).text
    if now is not None and text not in (now.text, "[]") and not follows_its_table:
        kind = name.removesuffix(f" {unquoted(now.of)}")
        alter = sql.SQL("ALTER {} {} OWNER TO {}")
        yield alter.format(sql.SQL(_ALTERED.get(kind, kind.upper())), sql.SQL(now.of), _role(_first(text)))


def _privileges(db: Connection, name: str, text: str, wanted: Wanted, found: Objects) -> Iterator[sql.Composed]:
    entries = json.loads(text)
    kind, _, rest = name.partition(" ")
    if kind == "column":
        column = _at(found, "column", rest)
        if column.of:
            of = f"({_quoted(rest.removeprefix(unquoted(column.of) + '.'))}) ON {column.of}"
            yield from (_grant(of, entry) for entry in entries)
        return
    owned = found["owner"].get(name)
    kind = name.removesuffix(f" {unquoted(owned.of)}") if owned else kind
    identity = owned.of if owned else _member(db, rest) if kind == "function" else None
    if kind not in _GRANTED or identity is None:
        return
    of = f"ON {_GRANTED[kind]} {identity}"
    yield sql.SQL("REVOKE ALL {} FROM PUBLIC").format(sql.SQL(of))
    if owned:
        given = wanted["owner"].get(name, "[]")
        owner = _role(_first(owned.text if given == "[]" else given))
        yield sql.SQL("REVOKE ALL {} FROM {}").format(sql.SQL(of), owner)
    yield from (_grant(of, entry) for entry in entries)


def _default_privileges(name: str, text: str) -> Iterator[sql.Composed]:
    kind, _, schema = name.partition(" ")
    entries = json.loads(text)
    for definer in sorted({entry[0][0] for entry in entries}):
        where = sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema)) if schema else sql.SQL("")
        alter = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}").format(_role(definer)) + where
        kinds = sql.SQL(_BY_DEFAULT[kind])
        if not schema:  # they stand for the usual ones, and do not add to them
            yield alter + sql.SQL(" REVOKE ALL ON {} FROM PUBLIC, {}").format(kinds, _role(definer))
        for (_, grantee), privilege, grantable in (entry for entry in entries if entry[0][0] == definer):
            yield alter + sql.SQL(" ") + _grant(f"ON {_BY_DEFAULT[kind]}", [[grantee], privilege, grantable])


def _policy_roles(name: str, text: str, found: Objects) -> Iterator[sql.Composed]:
    now, policy = found["roles of policy"].get(name), _at(found, "policy", name)
    if now is not None and policy.of and text not in (now.text, "[]"):
        own = _quoted(name.removesuffix(f" on {unquoted(policy.of)}"))
        roles = sql.SQL(", ").join(_role(entry[0][0]) for entry in json.loads(text))
        yield sql.SQL("ALTER POLICY {} ON {} TO {}").format(sql.SQL(own), sql.SQL(policy.of), roles)


def _grant(of: str, entry: list[Any]) -> sql.Composed:
    (role,), privilege, grantable = entry
    if not str(privilege).isalpha():
        raise StepFailedError(f"the manifest names a privilege that there is not: {privilege!r}")
    option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
    return sql.SQL("GRANT {} {} TO {}").format(sql.SQL(privilege), sql.SQL(of), _role(role)) + option


def _member(db: Connection, signature: str) -> str | None:
    """A function of an extension, as the server names it."""
    row = db.execute("SELECT to_regprocedure(%s)::text", (signature,)).fetchone()
    return str(row[0]) if row and row[0] else None


def _at(found: Objects, kind: str, name: str) -> Definition:
    return found.get(kind, {}).get(name, Definition(""))


def _first(text: str) -> str:
    return str(json.loads(text)[0][0][0])


def _role(name: str) -> sql.Composable:
    return sql.Identifier(name) if name else sql.SQL("PUBLIC")


def _quoted(name: str) -> str:
    """A name that unquoted() may have stripped."""
    return name if name.startswith('"') else f'"{name}"'
