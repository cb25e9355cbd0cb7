"""The roles that belong to a room's record beside those of every room: its logins, with hashes of their passwords."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from flows.backup.postgres import Connection
from opsdb.errors import OpsError
from opsdb.roles import ALL, OF_EVERY_ROOM
from opsdb.schema import SCHEMA

# Members of a role of the room, directly or not, and whoever was given a right in the record by name.
_READ = """
WITH room AS (SELECT oid FROM pg_roles WHERE rolname = ANY (%(room)s)),
groups AS (SELECT oid FROM pg_roles WHERE rolname = ANY (%(groups)s)),
named AS (
    SELECT d.refobjid AS oid FROM pg_shdepend d
    WHERE d.refclassid = 'pg_authid'::regclass
          AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (d.classid, d.objid) IN (
              SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = %(schema)s::regnamespace
              UNION ALL SELECT 'pg_namespace'::regclass, %(schema)s::regnamespace
              UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
              UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                        WHERE c.relnamespace = %(schema)s::regnamespace)
), taken AS (
    SELECT r.oid FROM pg_roles r
    WHERE NOT r.rolsuper AND NOT starts_with(r.rolname, 'pg_') AND r.rolname <> current_user
          AND r.oid NOT IN (SELECT oid FROM room)
          AND (r.oid IN (SELECT oid FROM named)
               OR EXISTS (SELECT FROM groups o WHERE pg_has_role(r.oid, o.oid, 'MEMBER')))
)
SELECT r.rolname AS name, r.rolcanlogin AS login, r.rolinherit AS inherit, r.rolconnlimit AS connections,
       r.rolvaliduntil::text AS valid_until, {password} AS password,
       shobj_description(r.oid, 'pg_authid') AS comment,
       coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0), '{{}}')
           AS settings,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('role', o.rolname, 'inherit', m.inherit_option,
                                                     'set', m.set_option, 'admin', m.admin_option)), '[]')
        FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid
        WHERE m.member = r.oid AND m.roleid IN (SELECT oid FROM room UNION SELECT oid FROM taken)) AS memberships
FROM {catalog} r JOIN taken USING (oid) ORDER BY r.rolname
"""


@dataclass(frozen=True, kw_only=True)
class RoomRole:
    """A role. `password` is the server's hash, or None where it has none or it could not be read."""

    name: str
    login: bool
    inherit: bool
    connections: int
    valid_until: str | None
    password: str | None
    comment: str | None
    settings: list[str]
    """As `name=value`."""
    memberships: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """It for JSON: a secret."""
        return asdict(self)


def read_roles(db: Connection, *, superuser: bool) -> list[RoomRole]:
    """The roles that go along with the record, by name. Only a superuser reads the hashes of passwords."""
    catalog, password = ("pg_authid", "r.rolpassword") if superuser else ("pg_roles", "NULL")
    query = _READ.format(catalog=catalog, password=password)
    names = {"room": list(OF_EVERY_ROOM), "groups": list(ALL), "schema": SCHEMA}
    with db.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query.encode(), names).fetchall()
    return [RoomRole(**row) for row in rows]


def make_roles(db: Connection, roles: list[RoomRole]) -> None:
    """Make these roles as they were, beside the room's own; one that is there becomes so. Raises OpsError."""
    try:
        with db.transaction():
            for role in roles:
                if not db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role.name]).fetchone():
                    _execute(db, "CREATE ROLE {name} NOLOGIN", name=sql.Identifier(role.name))
            for role in roles:
                _shape(db, role)
        for role in roles:
            for setting in role.settings:
                _set(db, role.name, *setting.split("=", 1))
    except psycopg.Error as error:
        raise OpsError(
            f"the roles of the record could not be made: {str(error).splitlines()[0]}. Hint: the user of "
            "OPS_DATABASE_URL needs CREATEROLE"
        ) from error


def _shape(db: Connection, role: RoomRole) -> None:
    name = sql.Identifier(role.name)
    _execute(
        db,
        f"ALTER ROLE {{name}} {'LOGIN' if role.login else 'NOLOGIN'} {'INHERIT' if role.inherit else 'NOINHERIT'} "
        "CONNECTION LIMIT {limit}",
        name=name,
        limit=sql.Literal(role.connections),
    )
    if role.password is not None:
        _execute(db, "ALTER ROLE {name} PASSWORD {hash}", name=name, hash=sql.Literal(role.password))
    if role.valid_until is not None:
        _execute(db, "ALTER ROLE {name} VALID UNTIL {until}", name=name, until=sql.Literal(role.valid_until))
    if role.comment is not None:
        _execute(db, "COMMENT ON ROLE {name} IS {comment}", name=name, comment=sql.Literal(role.comment))
    for one in role.memberships:
        _execute(
            db,
            f"GRANT {{group}} TO {{name}} WITH INHERIT {bool(one['inherit'])}, SET {bool(one['set'])}, "
            f"ADMIN {bool(one['admin'])}",
            group=sql.Identifier(one["role"]),
            name=name,
        )


def _set(db: Connection, role: str, setting: str, value: str) -> None:
    """From the session's own value: a list such as search_path is quoted as the server does it."""
    with db.transaction():
        db.execute("SELECT set_config(%s, %s, true)", [setting, value])
        parts = {"name": sql.Identifier(role), "setting": sql.Identifier(*setting.split("."))}
        _execute(db, "ALTER ROLE {name} SET {setting} FROM CURRENT", **parts)


def _execute(db: Connection, statement: str, **parts: sql.Composable) -> None:
    db.execute(sql.SQL(statement).format(**parts))
