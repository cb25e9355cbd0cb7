"""The roles that belong to a room's record beside those of every room: its logins, with hashes of their passwords."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from flows.backup.postgres import Connection
from opsdb.errors import OpsError, UsageError
from opsdb.logins import BY_CERTIFICATE, MADE_HERE
from opsdb.roles import ALL, OF_EVERY_ROOM
from opsdb.schema import SCHEMA

RESTORED = "made by a restore of the Ops Control Room"
"""The comment on a role that had none."""

_THERE = "SELECT 1 FROM pg_roles WHERE rolname = %s"
_TAKEABLE = """
SELECT name, why FROM (
    SELECT rolname AS name,
           CASE WHEN rolsuper THEN 'a superuser'
                WHEN rolname = current_user THEN 'the login of this room'
                WHEN rolname <> ALL (%(known)s)
                     AND coalesce(shobj_description(oid, 'pg_authid') <> ALL (%(made)s), true) THEN 'not made by a room'
                WHEN NOT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') THEN 'made by another login' END AS why
    FROM pg_roles WHERE rolname = ANY (%(names)s)) r
WHERE why IS NOT NULL ORDER BY name
"""
# Members of a role of the room, directly or not, and whoever was given a right in the record by name. Superusers and
# the room's own login are bare: the dump names them where they were given a right, and they are other ones elsewhere.
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
              UNION ALL SELECT 'pg_default_acl'::regclass, oid FROM pg_default_acl
                        WHERE defaclnamespace = %(schema)s::regnamespace
              UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = %(schema)s::regnamespace
              UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
              UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                        WHERE c.relnamespace = %(schema)s::regnamespace)
), taken AS (
    SELECT r.oid, r.rolsuper OR r.rolname = current_user AS bare FROM pg_roles r
    WHERE NOT starts_with(r.rolname, 'pg_') AND r.oid NOT IN (SELECT oid FROM room)
          AND (r.oid IN (SELECT oid FROM named)
               OR NOT r.rolsuper AND r.rolname <> current_user
                  AND EXISTS (SELECT FROM groups o WHERE pg_has_role(r.oid, o.oid, 'MEMBER')))
)
SELECT r.rolname AS name, bare, r.rolcanlogin AND NOT bare AS login, r.rolinherit AS inherit,
       CASE WHEN bare THEN -1 ELSE r.rolconnlimit END AS connections,
       CASE WHEN NOT bare THEN r.rolvaliduntil::text END AS valid_until,
       CASE WHEN NOT bare THEN {password} END AS password,
       CASE WHEN NOT bare THEN shobj_description(r.oid, 'pg_authid') END AS comment,
       coalesce((SELECT s.setconfig FROM pg_db_role_setting s
                 WHERE s.setrole = r.oid AND s.setdatabase = 0 AND NOT bare), '{{}}') AS settings,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('role', o.rolname, 'inherit', m.inherit_option,
                                                     'set', m.set_option, 'admin', m.admin_option)), '[]')
        FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid
        WHERE m.member = r.oid AND NOT bare AND m.roleid IN (SELECT oid FROM room UNION SELECT oid FROM taken))
           AS memberships
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
    bare: bool = False
    """Whether only its name is needed, since the dump names it: it becomes a role that cannot log in."""

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


def check_takeable(db: Connection, names: list[str], *, known: list[str]) -> None:
    """Raise UsageError for roles of these names that are on this server and that a restore must not change.

    `known` are those of the record that is put aside: they may become what they are in the backup.
    """
    values = {"names": names, "known": known, "made": [MADE_HERE, BY_CERTIFICATE, RESTORED]}
    rows = db.execute(_TAKEABLE, values).fetchall()
    if rows:
        raise UsageError(
            f"this server has roles of the names in the backup, which a restore would change: "
            f"{', '.join(f'{name} ({why})' for name, why in rows)}. Hint: rename them (ALTER ROLE ... RENAME TO ...), "
            "or restore onto another server"
        )


def make_roles(db: Connection, roles: list[RoomRole]) -> None:
    """Make these roles as they were, beside the room's own; existing ones are changed to match. Raises OpsError."""
    try:
        with db.transaction():
            made = [one for one in roles if not db.execute(_THERE, [one.name]).fetchone()]
            for role in made:
                _execute(db, "CREATE ROLE {name} NOLOGIN", name=sql.Identifier(role.name))
                comment = sql.Literal(role.comment or RESTORED)
                _execute(db, "COMMENT ON ROLE {name} IS {comment}", name=sql.Identifier(role.name), comment=comment)
            for role in roles:
                if not role.bare:
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
