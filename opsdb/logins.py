"""Logins of the ops database, for programs that read, as Superset, and for those that write: workers, Supabase.

The room knows those that it made by their comment, and touches no other role. The server gets a hash: no password is
in a statement, in its log, or in `pg_stat_activity`.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text

from opsdb.errors import OpsError, UsageError
from opsdb.rights import OWNER, READING, ROLES, WRITING

LOGIN_ROLES = (*READING, *WRITING)
"""What a login may be."""
MADE_HERE = "login made by the Ops Control Room"
BY_CERTIFICATE = f"{MADE_HERE}, for a client certificate"
NAME = re.compile(r"(?!pg_|ops_|postgres$)[a-z_][a-z0-9_]{0,62}")
SHORTEST_PASSWORD = 16

_READ = text("""
SELECT l.rolname AS name, coalesce(array_agg(r.rolname::text ORDER BY r.rolname) FILTER (WHERE r.rolname IS NOT NULL),
                                   '{}') AS roles,
       CASE shobj_description(l.oid, 'pg_authid') WHEN :made THEN 'password' ELSE 'certificate' END AS proof,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = l.rolname) AS connections
FROM pg_roles l LEFT JOIN pg_auth_members m ON m.member = l.oid LEFT JOIN pg_roles r ON r.oid = m.roleid
WHERE shobj_description(l.oid, 'pg_authid') IN (:made, :by_certificate) AND l.rolcanlogin
GROUP BY l.oid, l.rolname ORDER BY l.rolname
""")
_COMMENTS = {"made": MADE_HERE, "by_certificate": BY_CERTIFICATE}
_KNOWN = text("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = :name")
_IS_SUPERUSER = text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
_END = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = :name")


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login that the room made, with the roles it is a member of and its connections now."""

    name: str
    roles: list[str]
    proof: Literal["password", "certificate"]
    connections: int


def new_password() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(24)


def read_logins(db: Connection) -> list[Login]:
    """The logins that the room made, by name."""
    return [Login(**row._mapping) for row in db.execute(_READ, _COMMENTS)]


def make_login(db: Connection, name: str, *, role: str, password: str | None) -> None:
    """Make a login with the rights of the role, by its password; without one, by a client certificate with its name.

    Raises UsageError for a name that is taken or cannot be one, a role that is not for logins or not there, a short
    password.
    """
    check_name(name)
    if role not in LOGIN_ROLES:
        raise UsageError(f"--role: {role[:63]!r} is not a role for logins (choose from {', '.join(LOGIN_ROLES)})")
    taken, comment = _look_up(db, name)
    if taken:
        ours = comment in _COMMENTS.values()
        raise UsageError(f"NAME: there is a role {name} already: {_other_way(name) if ours else 'choose another name'}")
    if not _look_up(db, role)[0]:
        raise UsageError(f"--role: this server has no role {role} yet. Hint: `ops db roles` makes it")
    _execute(
        db,
        "CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION "
        "CONNECTION LIMIT {limit} PASSWORD {password} IN ROLE {role}",
        name=sql.Identifier(name),
        limit=sql.Literal(ROLES[role].connections),
        password=sql.Literal(None if password is None else _hashed(db, name, password)),
        role=sql.Identifier(role),
    )
    if role in READING:
        _execute(db, "ALTER ROLE {name} SET default_transaction_read_only = on", name=sql.Identifier(name))
    made = BY_CERTIFICATE if password is None else MADE_HERE
    _execute(db, "COMMENT ON ROLE {name} IS {made}", name=sql.Identifier(name), made=sql.Literal(made))


def replace_password(db: Connection, name: str, *, password: str) -> None:
    """Give a login another password. Its connections stay.

    Raises UsageError for one that the room did not make, or made for a certificate.
    """
    if _check_ours(db, name) == BY_CERTIFICATE:
        raise UsageError(f"NAME: {name} comes in by a client certificate, and has no password to replace")
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
    if name in (OWNER, *ROLES):
        raise UsageError(f"NAME: {name} is a role of the room: choose another name, and give --role {name}")
    if NAME.fullmatch(name) is None:
        raise UsageError(
            f"NAME: {name[:63]!r} cannot be a login here: expected small letters, digits and _, at most 63, not "
            "beginning with pg_ or ops_"
        )


def check_password(password: str) -> None:
    """Raise UsageError for a password that is too short, or that a client could not send. It is not shown."""
    if len(password) < SHORTEST_PASSWORD or not password.isprintable():
        raise UsageError(f"password on stdin: expected one line of at least {SHORTEST_PASSWORD} printable characters")


def _check_ours(db: Connection, name: str) -> str:
    """What the room noted of the login."""
    _, comment = _look_up(db, name)
    if comment is None or comment not in _COMMENTS.values():
        raise UsageError(f"NAME: {name[:63]!r} is not a login that the room made: `ops db logins` lists those")
    return comment


def _other_way(name: str) -> str:
    return f"`ops db login {name} --new` gives it a new password, `ops db login {name} --remove` takes it away"


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
