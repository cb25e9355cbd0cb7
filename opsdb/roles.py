"""Plans how the roles of a database, their rights and the policies of its tables become what `opsdb.rights` says.

Each change is a statement of SQL, so that it can be shown before it is made. Rights of other roles are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text

from opsdb.errors import UsageError
from opsdb.rights import OWNER, READ, ROLES, WITHOUT_ROW_SECURITY, Kind

TAKEN_ON = (OWNER, "ops_writer", "ops_monitor")
"""Those that some part of the room takes on, which the room's login must be able to."""
OF_EVERY_ROOM = (OWNER, *(name for name, role in ROLES.items() if role.of_every_room))
ALL = (OWNER, *ROLES)

_FOUND = text("""
SELECT r.rolname::text AS name, pg_has_role(r.oid, 'SET') AS taken_on,
       ARRAY(SELECT word FROM (VALUES (r.rolsuper, 'SUPERUSER'), (r.rolcreaterole, 'CREATEROLE'),
                                      (r.rolcreatedb, 'CREATEDB'), (r.rolreplication, 'REPLICATION'),
                                      (r.rolbypassrls, 'BYPASSRLS')) AS power (has, word) WHERE has) AS powers,
       ARRAY(SELECT quote_ident(g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1) AS member_of
FROM pg_roles r WHERE r.rolname IN :names ORDER BY 1
""").bindparams(bindparam("names", expanding=True))
_IS_SUPERUSER = text("SELECT current_setting('is_superuser')::bool")
_CLOSED_TO = text("""
SELECT quote_ident(d.datname) FROM pg_database d
WHERE d.datname = current_database() AND pg_has_role(d.datdba, 'USAGE')
      AND NOT has_database_privilege(:role, d.oid, 'CONNECT')
""")
_ADMITTED = text("""
SELECT r.rolname::text FROM pg_namespace n, aclexplode(n.nspacl) acl JOIN pg_roles r ON r.oid = acl.grantee
WHERE n.nspname = 'ops' AND acl.privilege_type = 'USAGE' AND NOT r.rolsuper
""")
# Each object of the schema, and each kind of which more are to come, with the rights that were given on it by name.
_OBJECTS = text("""
WITH object AS (
    SELECT 'schema' AS kind, '' AS name, '' AS before, 'SCHEMA' AS word, 'ops' AS target, nspacl AS acl, 0::oid AS id
    FROM pg_namespace WHERE nspname = 'ops'
    UNION ALL
    SELECT CASE WHEN relkind = 'S' THEN 'sequence' WHEN relkind IN ('v', 'm') THEN 'view' ELSE 'table' END,
           relname::text, '', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, format('ops.%I', relname), relacl,
           oid
    FROM pg_class WHERE relnamespace = 'ops'::regnamespace AND relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    UNION ALL
    SELECT 'function', proname::text, '', 'ROUTINE',
           format('ops.%I(%s)', proname, pg_get_function_identity_arguments(oid)), proacl, 0
    FROM pg_proc WHERE pronamespace = 'ops'::regnamespace
    UNION ALL
    SELECT more.kind, '', 'ALTER DEFAULT PRIVILEGES FOR ROLE ops_owner IN SCHEMA ops ', more.words, '', d.defaclacl, 0
    FROM (VALUES ('table', 'TABLES', 'r'), ('sequence', 'SEQUENCES', 'S'), ('function', 'ROUTINES', 'f'))
         AS more (kind, words, letter)
    LEFT JOIN pg_default_acl d ON d.defaclobjtype = more.letter::"char"
         AND d.defaclrole = 'ops_owner'::regrole AND d.defaclnamespace = 'ops'::regnamespace
)
SELECT o.kind, o.name, o.before, o.word, o.target, (
    SELECT coalesce(jsonb_object_agg(g.role, g.rights), '{}') FROM (
        SELECT r.rolname AS role, jsonb_object_agg(acl.what, acl.passed_on) AS rights
        FROM (SELECT grantee, what, bool_or(passed_on) AS passed_on FROM (
            SELECT grantee, privilege_type AS what, is_grantable AS passed_on FROM aclexplode(o.acl)
            UNION ALL
            SELECT acl.grantee, format('%s (%I)', acl.privilege_type, a.attname), acl.is_grantable
            FROM pg_attribute a, aclexplode(a.attacl) acl WHERE a.attrelid = o.id
        ) each GROUP BY grantee, what) acl JOIN pg_roles r ON r.oid = acl.grantee GROUP BY r.rolname
    ) g) AS given
FROM object o ORDER BY o.before, o.kind, o.name
""")
_TABLES = text("""
SELECT c.relname::text AS name, format('ops.%I', c.relname) AS target, c.relrowsecurity AS secured, (
    SELECT coalesce(jsonb_object_agg(p.polname, ARRAY(
        SELECT quote_ident(r.rolname) FROM pg_roles r WHERE r.oid = ANY (p.polroles) ORDER BY 1)), '{}')
    FROM pg_policy p WHERE p.polrelid = c.oid) AS policies
FROM pg_class c
WHERE c.relnamespace = 'ops'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> :without ORDER BY 1
""")
_POLICIES = {"room": "TO {} USING (true) WITH CHECK (true)", "readers": "FOR SELECT TO {} USING (true)"}


def check_roles(db: Connection) -> None:
    """Raise UsageError for a role that may do more than the room gives it, in this database or in others."""
    for role in _read_roles(db, ALL):
        if role.powers:
            raise UsageError(
                f"the role {role.name} of this server has {', '.join(role.powers)}: the rights that the room gives do "
                f"not limit it. Hint: as a superuser, ALTER ROLE {role.name} NO{' NO'.join(role.powers)}; where it "
                "belongs to another program, use another server"
            )
        if role.member_of:
            raise UsageError(
                f"the role {role.name} of this server is a member of {', '.join(role.member_of)}, whose rights it "
                f"passes on to its logins. Hint: REVOKE {', '.join(role.member_of)} FROM {role.name}"
            )


def plan_roles(db: Connection, names: Iterable[str]) -> list[str]:
    """The statements that make the roles which are missing, and let the login of this connection take them on."""
    wanted = list(names)
    found = {role.name: role for role in _read_roles(db, wanted)}
    made = [f"CREATE ROLE {name} NOLOGIN" for name in wanted if name not in found]
    if db.scalar(_IS_SUPERUSER):
        return made
    lacking = [name for name in TAKEN_ON if name not in found or not found[name].taken_on]
    return made + [f"GRANT {name} TO CURRENT_USER" for name in lacking]


def plan_connections(db: Connection) -> list[str]:
    """The statements that let roles into the database of this connection; none where its owner is somebody else."""
    known = {role.name for role in _read_roles(db, ROLES)}
    closed = [(db.scalar(_CLOSED_TO, {"role": name if name in known else "public"}), name) for name in ROLES]
    return [f"GRANT CONNECT ON DATABASE {database} TO {name}" for database, name in closed if database]


def plan_rights(db: Connection, names: Iterable[str]) -> list[str]:
    """The statements, for the owner of the schema, that give these roles their rights and take what is beyond those.

    The rights are those on objects that are there, and on tables, sequences and functions that are yet to be made.
    """
    roles = sorted(set(names) & ROLES.keys())
    return [*_plan_grants(db, roles), *_plan_policies(db, roles)]


def roles_of_room(db: Connection) -> list[str]:
    """The roles of every room, and those that were given the schema: a name that somebody else uses must not."""
    return [*OF_EVERY_ROOM, *db.scalars(_ADMITTED)]


def has_schema(db: Connection) -> bool:
    """Whether the database has the schema `ops`."""
    return bool(db.scalar(text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'ops')")))


def execute(db: Connection, statements: Iterable[str]) -> None:
    """Execute what was planned."""
    for statement in statements:
        db.exec_driver_sql(statement.replace("%", "%%"))


def _read_roles(db: Connection, names: Iterable[str]) -> list[Row[Any]]:
    return list(db.execute(_FOUND, {"names": list(names)}))


def _plan_grants(db: Connection, roles: list[str]) -> Iterator[str]:
    targets = defaultdict[tuple[str, ...], list[str]](list)
    for one in db.execute(_OBJECTS):
        for role in roles:
            given = one.given.get(role, {})
            wanted = ROLES[role].rights(Kind(one.kind), one.name)
            passed_on = frozenset(right for right, may_pass_on in given.items() if may_pass_on)
            plan = (("REVOKE GRANT OPTION FOR", passed_on), ("REVOKE", given.keys() - wanted))
            for verb, rights in (*plan, ("GRANT", wanted - given.keys())):
                if rights:
                    targets[(one.before, verb, ", ".join(sorted(rights)), one.word, role)].append(one.target)
    for (before, verb, listed, word, role), named in targets.items():
        on = f"{word} {', '.join(named)}".strip()
        to = {"GRANT": f"TO {role}", "REVOKE": f"FROM {role}"}.get(
            verb, f"FROM {role} CASCADE"
        )  # and what it passed on
        yield f"{before}{verb} {listed} ON {on} {to}"


def _plan_policies(db: Connection, roles: list[str]) -> Iterator[str]:
    for table in db.execute(_TABLES, {"without": WITHOUT_ROW_SECURITY}):
        if not table.secured:
            yield f"ALTER TABLE {table.target} ENABLE ROW LEVEL SECURITY"
        rights = {role: ROLES[role].rights(Kind.TABLE, table.name) for role in roles}
        wanted = {
            "room": [role for role, allowed in rights.items() if allowed - READ],
            "readers": [role for role, allowed in rights.items() if allowed == READ],
        }
        for policy, words in _POLICIES.items():
            there = table.policies.get(policy)
            others = [role for role in there or () if role not in ROLES]  # whom the database's administrator let in
            listed = ", ".join([*wanted[policy], *others])
            if there is None and listed:
                yield f"CREATE POLICY {policy} ON {table.target} {words.format(listed)}"
            elif there is not None and not listed:
                yield f"DROP POLICY {policy} ON {table.target}"
            elif there is not None and set(there) != {*wanted[policy], *others}:
                yield f"ALTER POLICY {policy} ON {table.target} TO {listed}"
