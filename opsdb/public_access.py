"""What PUBLIC, every login of a server, may do in a database that the room uses, and how a database is closed to it.

By default each login may connect to each database, fill its disk with temporary tables and large objects, and fill the
memory that the server has for locks. The room closes only databases that it made itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, create_engine, text

from opsdb.database import driver_url, reachable

MADE_HERE = "made by the Ops Control Room"
"""The comment on a database that a room has made. Only a database's owner can set one."""

# Who was given a right here by name, or all rights at once, and could not connect any more without PUBLIC: roles, from
# which their members inherit, and logins that have a role without inheriting from it, and take it on.
_CUT_OFF = """
WITH own AS (
    SELECT oid, nspacl FROM pg_namespace WHERE nspname <> 'information_schema' AND NOT starts_with(nspname, 'pg_')
), relation AS (
    SELECT c.oid, c.relacl, c.relowner FROM pg_class c JOIN own ON own.oid = c.relnamespace
), granted AS (
    SELECT acl.grantee AS oid FROM own, aclexplode(own.nspacl) acl
    UNION SELECT acl.grantee FROM relation, aclexplode(relation.relacl) acl
    UNION SELECT acl.grantee FROM pg_attribute a JOIN relation ON relation.oid = a.attrelid, aclexplode(a.attacl) acl
    UNION SELECT relowner FROM relation
), cut_off AS (
    SELECT r.oid, r.rolname, r.rolcanlogin FROM pg_roles r
    WHERE NOT r.rolsuper AND NOT starts_with(r.rolname, 'pg_') AND NOT EXISTS (
        SELECT FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) acl
        WHERE d.datname = current_database() AND acl.privilege_type = 'CONNECT' AND acl.grantee <> 0
              AND pg_has_role(r.oid, acl.grantee, 'USAGE'))
), holder AS (
    SELECT oid FROM granted WHERE oid <> 0
    UNION SELECT oid FROM pg_roles WHERE rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_all_stats')
)
SELECT quote_ident(r.rolname) FROM cut_off r
WHERE r.oid IN (SELECT oid FROM holder)
   OR r.rolcanlogin
      AND EXISTS (SELECT FROM holder h WHERE pg_has_role(r.oid, h.oid, 'MEMBER'))
      AND NOT EXISTS (SELECT FROM holder h JOIN cut_off USING (oid) WHERE pg_has_role(r.oid, h.oid, 'USAGE'))
ORDER BY 1
"""
_PUBLIC = """
SELECT d.datname AS database, quote_ident(d.datname) AS quoted,
       shobj_description(d.oid, 'pg_database') IS NOT DISTINCT FROM :made AS made_here,
       has_database_privilege('public', d.oid, 'CONNECT') AS connects,
       has_database_privilege('public', d.oid, 'TEMPORARY') AS makes_tables,
       has_schema_privilege('public', to_regnamespace('public')::oid, 'CREATE') AS makes_functions,
       current_setting('is_superuser')::bool AS superuser
FROM pg_database d WHERE d.datname = current_database()
"""
# what takes no right but a connection: to make large objects, to take locks, to write to the server's log of changes
_FUNCTIONS = """
SELECT format('pg_catalog.%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid))
FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND acl.grantee = 0 AND acl.privilege_type = 'EXECUTE'
      AND (p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'pg_logical_emit_message')
           OR p.proname ~ '^pg_(try_)?advisory_')
ORDER BY 1
"""


@dataclass(frozen=True)
class PublicAccess:
    """What every login may do in one database.

    `revokes` are the statements that close it, `grants` those that keep whoever works there from being cut off.
    """

    database: str
    made_here: bool
    grants: tuple[str, ...]
    revokes: tuple[str, ...]


def read_public_access(db: Connection) -> PublicAccess:
    """What every login may do in the database of the connection."""
    may = db.execute(text(_PUBLIC), {"made": MADE_HERE}).one()
    cut_off = list(db.scalars(text(_CUT_OFF)))
    grants = [f"GRANT CONNECT ON DATABASE {may.quoted} TO {', '.join(cut_off)}"] if cut_off else []
    revokes = []
    if may.connects or may.makes_tables:
        revokes.append(f"REVOKE CONNECT, TEMPORARY ON DATABASE {may.quoted} FROM PUBLIC")
    if may.makes_functions:
        revokes.append("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    return PublicAccess(may.database, may.made_here, tuple(grants), tuple(revokes))


def close_to_public(db: Connection) -> None:
    """Leave the database of the connection to those who hold a right in it. Repeating it changes nothing.

    The functions that need no right but a connection can be closed by a superuser only: elsewhere they stay open to
    those who may connect.
    """
    access = read_public_access(db)
    for statement in (*access.grants, *access.revokes):
        db.execute(text(statement))
    if db.execute(text("SELECT current_setting('is_superuser')::bool")).scalar_one():
        for function in list(db.scalars(text(_FUNCTIONS))):
            db.execute(text(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC"))


def names_made_here(db: Connection, names: list[str]) -> list[str]:
    """Which of these databases of the server a room has made, and this login may close."""
    made = text(
        "SELECT datname FROM pg_database WHERE datname IN :names AND shobj_description(oid, 'pg_database') = :made "
        "AND pg_has_role(datdba, 'USAGE')"
    )
    values = {"names": names, "made": MADE_HERE}
    return list(db.scalars(made.bindparams(bindparam("names", expanding=True)), values))


@contextmanager
def maintaining(url: str, database: str) -> Iterator[Connection]:
    """One transaction in a database of the URL's server, as the login of the URL, with the server's own names alone."""
    options = "-c search_path=pg_catalog -c statement_timeout=30000 -c lock_timeout=10000"
    arguments = {"connect_timeout": 3, "application_name": "ops migrate", "options": options}
    engine = create_engine(driver_url(url, database=database), connect_args=arguments)
    try:
        with reachable(f"the database {database}"), engine.begin() as db:
            yield db
    finally:
        engine.dispose()
