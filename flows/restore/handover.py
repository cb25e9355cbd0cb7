"""Owners and privileges of a loaded database, given by the room as the dump's table of contents says.

The dump was loaded over a role without rights, to which everything belongs until now. Nothing of the dump is executed
here: each statement is sent alone, begins with words of the room's, and goes to things in this database.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from psycopg import pq, sql

from flows.backup.archive import Archive, TocEntry
from flows.backup.grants import RoleMap
from flows.backup.inventory import Inventory
from flows.backup.pinned import encoded
from flows.backup.postgres import Connection
from flows.restore.ownership import give_back
from opsdb.errors import StepFailedError

# As pg_restore does it: some things by their names, others as their DROP statement spells them.
_BY_NAME = {
    *("COLLATION", "CONVERSION", "DOMAIN", "FOREIGN TABLE", "MATERIALIZED VIEW", "SEQUENCE", "STATISTICS", "TABLE"),
    *("TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TYPE", "VIEW", "SCHEMA", "SERVER"),
}
_BY_SIGNATURE = {"AGGREGATE", "FUNCTION", "OPERATOR", "PROCEDURE"}
# What executes something as its owner, by itself or when somebody uses it; a sequence goes with its table.
_EXECUTING = _BY_SIGNATURE | {"DOMAIN", "FOREIGN TABLE", "MATERIALIZED VIEW", "SEQUENCE", "TABLE", "VIEW"}
_LARGE_OBJECTS = {"BLOB", "BLOB METADATA"}  # one each, until PostgreSQL 16, and a list of them

_STATEMENT = re.compile(r"""(?:[^;"']|"(?:[^"]|"")*"|'(?:[^']|'')*')+;""")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_GRANTED_ON = "TABLE|SEQUENCE|FUNCTION|PROCEDURE|SCHEMA|TYPE|LANGUAGE|LARGE OBJECT|FOREIGN SERVER|FOREIGN DATA WRAPPER"
_ALLOWED = re.compile(
    rf"(?:GRANT|REVOKE)[\w\s,()]* ON (?:{_GRANTED_ON}) (?!pg_catalog\.)"
    r"|ALTER DEFAULT PRIVILEGES |SET SESSION AUTHORIZATION \w+;$|RESET SESSION AUTHORIZATION;$"
)
# Who is one of these, or a member, can leave the database.
_PRIVILEGED = """
SELECT r.rolname FROM pg_catalog.pg_roles r WHERE EXISTS (
    SELECT FROM pg_catalog.pg_roles m WHERE pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER') AND (
        m.rolsuper OR m.rolcreaterole OR m.rolreplication OR m.rolbypassrls OR m.rolname IN
        ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files', 'pg_read_all_data',
         'pg_write_all_data')))
"""
_OWNED = """
SELECT pg_catalog.pg_describe_object(classid, objid, objsubid) FROM pg_catalog.pg_shdepend
WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND refobjid = %s::pg_catalog.regrole AND deptype = 'o'
  AND dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Handed:
    """What came of it."""

    other_owners: Sequence[str] = ()
    """Phrases for what went to other roles than in the dump."""
    refused: Sequence[str] = ()
    """Phrases for owners and privileges that the server did not let us give."""
    roles: RoleMap = field(default_factory=dict)
    """What stands for the roles of the backup now."""


def hand_over(
    db: Connection,
    archive: Archive,
    inventory: Inventory | None,
    *,
    roles: RoleMap,
    loader: str | None,
    owner: str,
    exact: bool,
) -> Handed:
    """Give all that belongs to `loader` to its owners, with privileges.

    Both are the dump's, with the words of pg_dump. With other roles, `roles` by those of the backup, privileges are the
    inventory's. None stands for a role that is left out: what it owned goes to `owner`. Without a loader, all belongs
    to the role of `db`, which may give what it can. With one, `db` is a superuser's, with an empty search path. Raises
    StepFailedError for what belongs to the loader and is not in the dump. `exact` says that nobody could have changed
    what is handed over, or that it does not matter: else no superuser gets what executes.
    """
    if loader is None:
        return Handed(refused=give_back(db, inventory, roles) if inventory else (), roles=roles)
    instead = {} if exact else _instead(db, archive, roles)
    now = {**roles, **instead}
    _give_owners(db, archive, now, owner=owner)
    refused = []
    if inventory is None or all(role == new for role, new in now.items()):
        for one in archive.of("ACL", "DEFAULT ACL"):
            # those of the database name the one that was dumped, and what is PostgreSQL's own is not part of it
            if not one.name.startswith("DATABASE ") and one.schema != "pg_catalog":
                _grant(db, one)
    else:
        refused = give_back(db, inventory, now)
    _end(db, loader)
    changed = [
        f"{one.title} goes to {instead[one.owner]} instead of {roles.get(one.owner, one.owner)}"
        for one in archive.of(*_EXECUTING)
        if one.owner in instead
    ]
    return Handed(changed, refused, now)


def _instead(db: Connection, archive: Archive, roles: RoleMap) -> dict[str, str]:
    """Roles of the dump that get nothing, and who does: others' code could have changed it during the load.

    Where every owner is privileged, no other's code was there.
    """
    privileged = {str(name) for (name,) in db.execute(_PRIVILEGED.encode()).fetchall()}
    owners = Counter(one.owner for one in archive.of(*_EXECUTING) if any(_things(one)))
    now = {role: roles.get(role, role) for role in owners}
    others = [new for role, _ in owners.most_common() if (new := now[role]) is not None and new not in privileged]
    return {role: others[0] for role, new in now.items() if new in privileged} if others else {}


def _give_owners(db: Connection, archive: Archive, roles: RoleMap, *, owner: str) -> None:
    # a sequence of a table goes with it, and may not go before
    for one in sorted(archive.entries, key=lambda entry: entry.kind == "SEQUENCE"):
        for thing in _things(one):
            _send(db, f"ALTER {thing} OWNER TO {_quoted(roles.get(one.owner, one.owner) or owner)}", one)


def _grant(db: Connection, one: TocEntry) -> None:
    try:
        for statement in _statements(one):
            _send(db, statement, one)
    finally:
        db.execute("RESET SESSION AUTHORIZATION")


def _end(db: Connection, loader: str) -> None:
    """Take its privileges from the login, to which nothing belongs any more."""
    if left := [str(name) for (name,) in db.execute(_OWNED, (_quoted(loader),)).fetchall()]:
        raise StepFailedError(
            f"the restored database holds what the dump does not name: {', '.join(left[:3])}. Code in the dump "
            "made it while it was loaded: look at what executes there, such as CHECK constraints"
        )
    db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(loader)))


def _things(one: TocEntry) -> Iterator[str]:
    """How ALTER ... OWNER TO names what an entry makes; nothing where it makes nothing with an owner."""
    if not one.owner or not one.definition:
        return
    if one.kind in _LARGE_OBJECTS:
        numbers = [one.name] if one.kind == "BLOB" else re.findall(r"^\d+$", one.definition, re.MULTILINE)
        yield from (f"LARGE OBJECT {int(number)}" for number in numbers)
    elif one.kind in _BY_SIGNATURE:
        yield one.drop.removeprefix("DROP ").rstrip().removesuffix(";")
    elif one.kind in _BY_NAME:
        schema = f"{_quoted(one.schema)}." if one.schema else ""
        yield f"{one.kind} {schema}{_quoted(one.name)}"


def _statements(one: TocEntry) -> list[str]:
    found = [match[0].strip() for match in _STATEMENT.finditer(one.definition)]
    for statement in found:
        if not _ALLOWED.match(_QUOTED.sub("x", statement)):
            raise StepFailedError(f"{one.title} of the dump is not a privilege: {statement[:200]}")
    return found


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _send(db: Connection, statement: str, one: TocEntry) -> None:
    """Over the extended protocol, which takes a single statement whatever its text holds."""
    result = db.pgconn.exec_params(encoded(db, statement), None)
    if result.status != pq.ExecStatus.COMMAND_OK:
        said = result.error_message.decode(errors="replace").strip().splitlines()[0]
        raise StepFailedError(f"owner or privileges of {one.title} cannot be restored: {said}")
