"""The role over which a dump is loaded: a login of one run, without any right but to one database.

Its own tables it reads whole, whatever their policies force on their owner.

`SET ROLE`, `SET SESSION AUTHORIZATION` and `pg_restore --role` do not replace it: code in the dump takes them back. As
whom a session logged in, it cannot.
"""

from __future__ import annotations

import secrets
from uuid import UUID

from psycopg import sql

from flows.backup.postgres import Connection, Login

_VALID = "7 days"  # longer than any run: one that is left behind cannot be used for ever


def loader_name(run_id: UUID) -> str:
    """The role of a run."""
    return f"ops_loader_{run_id.hex}"


def is_superuser(server: Connection) -> bool:
    """Whether the room may do what a superuser does.

    A role that may make roles and no more gains nothing by one: in the end all must belong to its own role.
    """
    return server.info.parameter_status("is_superuser") == "on"


def make_loader(server: Connection, run_id: UUID, *, comment: str) -> Login:
    """Make the role. The server gets the password as a verifier: a log of its statements shows no more."""
    login = Login(loader_name(run_id), secrets.token_urlsafe(32))
    verifier = server.pgconn.encrypt_password(login.password.encode(), login.user.encode(), b"scram-sha-256").decode()
    row = server.execute("SELECT (pg_catalog.now() + %s::interval)::text", (_VALID,)).fetchone()
    role = sql.Identifier(login.user)
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS PASSWORD {} VALID UNTIL {}"
    create = sql.SQL("CREATE ROLE {} " + rights)
    server.execute(create.format(role, sql.Literal(verifier), sql.Literal(str(row[0]) if row else "infinity")))
    server.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(comment)))
    return login


def drop_loader(server: Connection, run_id: UUID) -> None:
    """Drop the role of a run, if there is one. Nothing may belong to it any more."""
    name = loader_name(run_id)
    if server.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (name,)).fetchone():
        server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def rename_loader(server: Connection, run_id: UUID, name: str, *, database: str) -> None:
    """Make the role of a run into one that nobody logs in as, and that owns what it has loaded."""
    role = sql.Identifier(name)
    server.execute(sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(loader_name(run_id)), role))
    server.execute(sql.SQL("ALTER ROLE {} NOLOGIN NOBYPASSRLS PASSWORD NULL VALID UNTIL 'infinity'").format(role))
    server.execute(sql.SQL("COMMENT ON ROLE {} IS NULL").format(role))
    server.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), role))
