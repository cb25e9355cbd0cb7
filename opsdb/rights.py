"""What each role of the room may do in the schema `ops`: the one place that says so.

`opsdb.roles` brings a database to it, at each upgrade and with `ops db roles`. Migrations grant nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Rights = frozenset[str]
NOTHING: Rights = frozenset()
READ: Rights = frozenset({"SELECT"})
ADD: Rights = READ | {"INSERT"}
ROWS: Rights = ADD | {"UPDATE", "DELETE"}

OWNER = "ops_owner"
"""Owns the schema and what is in it. Migrations take it on."""
WITHOUT_ROW_SECURITY = "alembic_version"
"""The table that is read before there are policies."""


class Kind(StrEnum):
    """What a right is for."""

    SCHEMA = "schema"
    TABLE = "table"
    VIEW = "view"
    SEQUENCE = "sequence"
    FUNCTION = "function"


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role, and its rights on each kind of object; `but` has those on single objects, by name.

    `connections` is how many connections of a login with this role the server takes, -1 for any number: a program that
    leaks them must not starve the room.
    """

    name: str
    about: str
    tables: Rights
    views: Rights = NOTHING
    sequences: Rights = NOTHING
    functions: Rights = NOTHING
    but: Mapping[str, Rights] = field(default_factory=dict)
    connections: int = 30
    of_every_room: bool = True
    """Whether each upgrade makes it, or only `ops db roles`."""

    @property
    def writes(self) -> bool:
        """Whether it may change rows."""
        return bool(self.tables - READ)

    def rights(self, kind: Kind, name: str) -> Rights:
        """Those on an object; with an empty name, on objects of that kind that are yet to be made."""
        match kind:
            case Kind.SCHEMA:
                return frozenset({"USAGE"})
            case Kind.TABLE:
                return self.but.get(name, self.tables)
            case Kind.VIEW:
                return self.but.get(name, self.views)
            case Kind.SEQUENCE:
                return self.sequences
            case Kind.FUNCTION:
                return self.functions


# The results of kept steps may hold what a step was not to print, and a later attempt believes them.
_OF_THE_ROOM_ALONE = {"step_results": NOTHING}
WRITER = Role(
    name="ops_writer",
    about="the room, and workers on other hosts",
    tables=ROWS,
    but={
        "alembic_version": READ,
        "run_templates": ADD,  # what ran is neither changed nor deleted
        "room_locks": READ | {"UPDATE"},  # to take a lock is to lock a row, which takes UPDATE
        "backup_nights": READ,
        "databases": READ,
        "session_progress": READ,
    },
    connections=-1,
)
MONITOR = Role(name="ops_monitor", about="metrics and n8n", tables=READ, views=READ, but=_OF_THE_ROOM_ALONE)
SUPERSET = Role(name="superset_ro", about="Superset", tables=READ, views=READ, but=_OF_THE_ROOM_ALONE)
# The deployment guide grants ALL. TRIGGER is left out, by which a function of one's own runs as whoever changes a row,
# and REFERENCES and MAINTAIN, by which the room can be held up: decision 49.
SUPABASE = Role(
    name="supabase_admin",
    about="Supabase",
    tables=ROWS | {"TRUNCATE"},
    views=READ,
    sequences=frozenset({"USAGE", "SELECT", "UPDATE"}),
    functions=frozenset({"EXECUTE"}),
    but={
        **_OF_THE_ROOM_ALONE,
        "alembic_version": READ,
        "run_templates": ADD,
        "room_locks": READ,
    },
    of_every_room=False,
)
ROLES = {role.name: role for role in (WRITER, MONITOR, SUPERSET, SUPABASE)}
READING = tuple(name for name, role in ROLES.items() if not role.writes)
"""Those that only read."""
WRITING = tuple(name for name, role in ROLES.items() if role.writes)
