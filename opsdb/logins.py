"""Logins of the ops database for programs that only read: Superset, n8n, a notebook.

The room knows those that it made by their comment, and touches no other role. The server gets a hash: no password is
in a statement, in its log, or in `pg_stat_activity`.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text

from opsdb.errors import OpsError, UsageError

LOGIN_ROLES = ("superset_ro", "ops_monitor")
"""What a login may be: roles that only read."""
MADE_HERE = "login made by the Ops Control Room"
NAME = re.compile(r"(?!pg_|ops_|postgres$)[a-z_][a-z0-9_]{0,62}")
SHORTEST_PASSWORD = 16
CONNECTIONS = 30
"""How many connections of a login the server takes: one that leaks them must not starve the room."""

_READ = text("""
SELECT l.rolname AS name, coalesce(array_agg(r.rolname::text ORDER BY r.rolname) FILTER (WHERE r.rolname IS NOT NULL),
                                   '{}') AS roles,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = l.rolname) AS connections
FROM pg_roles l LEFT JOIN pg_auth_members m ON m.member = l.oid LEFT JOIN pg_roles r ON r.oid = m.roleid
WHERE shobj_description(l.oid, 'pg_authid') = :made AND l.rolcanlogin
GROUP BY l.oid, l.rolname ORDER BY l.rolname
""")
_KNOWN = text("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = :name")
_IS_SUPERUSER = text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
_END = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = :name")


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login that the room made, with the roles it is a member of and its connections now."""

    name: str
    roles: list[str]
    connections: int


def new_password() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(24)


def read_logins(db: Connection) -> list[Login]:
    """The logins that the room made, by name."""
    return [Login(**row._mapping) for row in db.execute(_READ, {"made": MADE_HERE})]


def make_login(db: Connection, name: str, *, role: str, password: str) -> None:
    """Make a login that reads what the role reads, by its password.

    Raises UsageError for a name that is taken or cannot be one, a role that is not for logins, a short password.
    """
    check_name(name)
    if role not in LOGIN_ROLES:
        raise UsageError(f"--role: {role[:63]!r} is not a role for logins (choose from {', '.join(LOGIN_ROLES)})")
    taken, comment = _look_up(db, name)
    if taken:
        ours = f"`ops db login {name} --new` gives it a new password" if comment == MADE_HERE else "choose another name"
        raise UsageError(f"NAME: there is a role {name} already: {ours}")
    _execute(
        db,
        "CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION "
        "CONNECTION LIMIT {limit} PASSWORD {password} IN ROLE {role}",
        name=sql.Identifier(name),
        limit=sql.Literal(CONNECTIONS),
        password=sql.Literal(_hashed(db, name, password)),
        role=sql.Identifier(role),
    )
    _execute(db, "ALTER ROLE {name} SET default_transaction_read_only = on", name=sql.Identifier(name))
    _execute(db, "COMMENT ON ROLE {name} IS {made}", name=sql.Identifier(name), made=sql.Literal(MADE_HERE))


def replace_password(db: Connection, name: str, *, password: str) -> None:
    """Give a login another password. Its connections stay. Raises UsageError for one that the room did not make."""
    _check_ours(db, name)
    hashed = _hashed(db, name, password)
    _execute(db, "ALTER ROLE {name} PASSWORD {hash}", name=sql.Identifier(name), hash=sql.Literal(hashed))


def remove_login(db: Connection, name: str) -> None:
    """Remove a login and end its connections. Raises UsageError for one that the room did not make."""
    _check_ours(db, name)
    if not db.scalar(_IS_SUPERUSER):  # who made a role may grant it, but has not what it may: to end what it holds
        _execute(db, "GRANT {name} TO CURRENT_USER WITH INHERIT TRUE, SET FALSE", name=sql.Identifier(name))
    _execute(db, "ALTER ROLE {name} NOLOGIN", name=sql.Identifier(name))
    db.execute(_END, {"name": name})
    _execute(db, "DROP OWNED BY {name}", name=sql.Identifier(name))
    _execute(db, "DROP ROLE {name}", name=sql.Identifier(name))


def check_name(name: str) -> None:
    """Raise UsageError for a name that a login may not have."""
    if NAME.fullmatch(name) is None:
        raise UsageError(
            f"NAME: {name[:63]!r} cannot be a login here: want small letters, digits and _, at most 63, not beginning "
            "with pg_ or ops_"
        )


def check_password(password: str) -> None:
    """Raise UsageError for a password that is too short, or that a client could not send. It is not shown."""
    if len(password) < SHORTEST_PASSWORD or not password.isprintable():
        raise UsageError(f"the password on stdin: want one line of at least {SHORTEST_PASSWORD} printable characters")


def _check_ours(db: Connection, name: str) -> None:
    _, comment = _look_up(db, name)
    if comment != MADE_HERE:
        raise UsageError(f"NAME: {name[:63]!r} is not a login that the room made: `ops db logins` lists those")


def _look_up(db: Connection, name: str) -> tuple[bool, str | None]:
    row = db.execute(_KNOWN, {"name": name}).one_or_none()
    return row is not None, row[0] if row else None


def _hashed(db: Connection, name: str, password: str) -> str:
    check_password(password)
    connection = db.connection.dbapi_connection
    if not isinstance(connection, psycopg.Connection):
        raise OpsError("passwords are hashed by psycopg, and this is another driver")
    return connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()


def _execute(db: Connection, statement: str, **parts: sql.Composable) -> None:
    connection = db.connection.dbapi_connection
    composed = sql.SQL(statement).format(**parts).as_string(connection)  # type: ignore[arg-type]  # psycopg's, see above
    db.exec_driver_sql(composed.replace("%", "%%"))
