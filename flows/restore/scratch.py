"""A database that a restore goes into: its name is generated, and whatever ends the work, it is dropped.

While it is made, nobody else shall work in it: it is a template, which takes it out of Odoo's list of databases, it
belongs to a role of the run where the room may make one, and PUBLIC may not connect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

import psycopg
from psycopg import sql

from flows.backup.manifest import Locale
from flows.backup.postgres import Connection, Login, connect
from flows.backup.properties import Properties
from flows.engine.active_run import current_run
from flows.restore.claim import claim, claim_lasting, claimed, end_sessions
from flows.restore.creation import create_database, in_tablespace
from flows.restore.loader import drop_loader, is_superuser, make_loader, rename_loader
from flows.restore.properties import bring_back
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError

_NAME = re.compile(r"ops_scratch_([0-9a-f]{32})")
_GRANTEES = """
SELECT DISTINCT r.rolname FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(datacl) a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = grantee
WHERE datname = %s AND grantee <> datdba
"""
_ROLE = re.compile(r"ops_loader_([0-9a-f]{32})")


def scratch_name(run_id: UUID) -> str:
    """The scratch database of a run."""
    return f"ops_scratch_{run_id.hex}"


class Scratch:
    """An empty database of one run, from make() until close() drops it, unless keep_as() gave it a name.

    A session with its name says that its run lives; a comment says whose it is. That session is idle while the backup
    is restored: where it was lost, it is made again.
    """

    def __init__(
        self,
        url: str,
        *,
        run_id: UUID,
        locale: Locale | None,
        template: str | None = None,
        tablespace: str | None = None,
    ) -> None:
        self.name = scratch_name(run_id)
        self.login: Login | None = None
        """The role without rights that the database belongs to, from make() on; None where the room may make none."""
        self._url = url
        self._run_id = run_id
        self._locale = locale
        self.template = template
        self._tablespace = tablespace
        self._server: Connection | None = None

    def make(self) -> None:
        """Make the database, and its login. Raises StepFailedError where that cannot be done."""
        server = self._hold()
        try:
            drop_database(server, self.name)  # of an earlier attempt of this run
            drop_loader(server, self._run_id)
            if is_superuser(server):
                self.login = make_loader(server, self._run_id, comment=_comment(self._run_id))
            for statement in self._statements(server):
                server.execute(statement)
        except psycopg.Error as error:
            raise StepFailedError(f"cannot make the scratch database {self.name}: {first_line(error)}") from error

    def connect(self) -> Connection:
        """Connect to it as the room, with no schema on its search path. Raises PreflightError."""
        return _pinned(connect(self._url, database=self.name))

    def connect_to_load(self) -> Connection:
        """Connect to it as the role without rights, where there is one. Raises PreflightError."""
        try:
            return connect(self._url, database=self.name, login=self.login)
        except PreflightError as error:
            if self.login is None:
                raise
            raise PreflightError(
                f"the server does not let in the role {self.login.user}, which the room has made with a password: "
                f"{error}. Hint: put a line into pg_hba.conf by which roles log in with a password from here, such as "
                "`host all all 127.0.0.1/32 scram-sha-256`, and give OPS_ODOO_DATABASE_URL that host"
            ) from error

    def shut(self) -> None:
        """Leave nobody in the database but the room and its login, whatever code of the dump has let in.

        The login no longer owns the database, so that it can let in nobody again. Raises StepFailedError.
        """
        if self.login is None or self._server is None:
            return
        server = self._held(self._server)
        login, name = sql.Identifier(self.login.user), sql.Identifier(self.name)
        try:
            with self.connect() as db:  # what it could do as the database's owner
                if db.execute("SELECT pg_catalog.to_regnamespace('public')").fetchone() != (None,):
                    db.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(login))
            server.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(name))
            server.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
            for (grantee,) in server.execute(_GRANTEES, (self.name,)).fetchall():
                role = sql.Identifier(str(grantee)) if grantee else sql.SQL("PUBLIC")
                server.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(name, role))
            server.execute(sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(name, login))
            end_sessions(server, self.name)
        except psycopg.Error as error:
            raise StepFailedError(f"others cannot be kept out of {self.name}: {first_line(error)}") from error

    def _statements(self, server: Connection) -> list[sql.Composed]:
        name = sql.Identifier(self.name)
        owner = sql.Identifier(self.login.user) if self.login else sql.SQL("CURRENT_USER")
        return [
            create_database(name, self._locale, self.template, version=server.info.server_version)
            + in_tablespace(server, self._tablespace),
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(_comment(self._run_id))),
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name),
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner),
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name),
        ]

    def keep_as(
        self,
        name: str,
        properties: Properties | None = None,
        *,
        owner: str | None = None,
        first: Callable[[Connection], None] = lambda _server: None,
        at_last: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Give it its final name and its properties, at once, and let in who may connect.

        In the same transaction, `first` makes room for it, and `at_last` is called when all of it is there. With an
        `owner`, a name that no role has, its login becomes that role, which nobody logs in as; else nothing may belong
        to it any more. Returns phrases for the properties that the server refused. Raises StepFailedError where the
        name is taken, or the database is gone.
        """
        refused: list[str] = []
        if self._server is None:
            return refused
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(self.name), sql.Identifier(name))
        open_up = ["COMMENT ON DATABASE {} IS NULL", "ALTER DATABASE {} IS_TEMPLATE false"]
        if properties is None:
            open_up.append("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC")
        server = self._held(self._server)
        try:
            with server.transaction():
                first(server)
                server.execute(rename)
                for statement in open_up:
                    server.execute(sql.SQL(statement).format(sql.Identifier(name)))
                if properties is not None:
                    refused = bring_back(server, name, properties)
                if self.login and owner:
                    rename_loader(server, self._run_id, owner, database=name)
                elif self.login:
                    drop_loader(server, self._run_id)
                at_last()
        except psycopg.errors.InvalidCatalogName as error:
            raise StepFailedError(
                f"the restored database {self.name} is gone: somebody dropped it, or another run took it "
                "for what a killed one leaves, after the connection that held it was lost. Start the restore again"
            ) from error
        except psycopg.Error as error:
            raise StepFailedError(f"the restored database cannot be named {name}: {first_line(error)}") from error
        server.close()
        self._server = None  # nothing is left to drop
        return refused

    def drop(self) -> None:
        """Drop it with every connection to it, if there still is one of that name. Raises StepFailedError."""
        if self._server is None:
            return
        server = self._held(self._server)
        try:
            drop_database(server, self.name)
            drop_loader(server, self._run_id)
        except psycopg.Error as error:
            raise StepFailedError(f"the scratch database {self.name} cannot be dropped: {first_line(error)}") from error

    def close(self) -> None:
        """Drop it, and let go of it. A failure to drop it is an event, and hides no other error."""
        try:
            self.drop()
        except StepFailedError as error:
            current_run().event(f"{error}. The next restore or drill drops it", level="warning")
        finally:
            if self._server is not None:
                self._server.close()

    def _held(self, server: Connection) -> Connection:
        """The connection with the claim, made again where it was lost. Raises StepFailedError where that cannot be."""
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError as error:
            current_run().event(f"the connection that held {self.name} was lost: {first_line(error)}", level="warning")
            server.close()
            return self._hold()
        return server

    def _hold(self) -> Connection:
        self._server = None  # without the claim it is not ours to drop
        try:
            server = connect(self._url)
        except PreflightError as error:
            raise StepFailedError(f"the scratch database {self.name} is out of reach: {error}") from error
        try:
            claim_lasting(server, self.name)
        except BaseException:
            server.close()
            raise
        self._server = server
        return server


def drop_leftovers(url: str) -> list[str]:
    """Drop the scratch databases of runs that were killed; returns their names.

    Each is one whose comment names the run of its name, that no session claims, and to which nobody is connected: no
    living run works on it, nor the pg_restore of one that lost its claim.
    """
    dropped = []
    with connect(url) as server:
        rows = server.execute(
            "SELECT datname, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database d"
            " WHERE datname LIKE 'ops\\_scratch\\_%' AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity"
            " WHERE datid = d.oid AND backend_type = 'client backend') ORDER BY 1"
        ).fetchall()
        for name, comment in rows:
            match = _NAME.fullmatch(str(name))
            if match is None or comment != _comment(UUID(match[1])):
                continue
            claim(server, str(name))
            if claimed(server, str(name)):
                continue
            drop_database(server, str(name))
            drop_loader(server, UUID(match[1]))
            dropped.append(str(name))
        dropped += _drop_loaders(server)
    return dropped


def _drop_loaders(server: Connection) -> list[str]:
    """Drop the logins of killed runs whose databases are gone, or never were."""
    if not is_superuser(server):
        return []
    dropped = []
    query = "SELECT rolname, pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles r"
    query += " WHERE rolname LIKE 'ops\\_loader\\_%' AND NOT EXISTS"
    query += " (SELECT FROM pg_catalog.pg_shdepend WHERE refobjid = r.oid) ORDER BY 1"
    for name, comment in server.execute(query.encode()).fetchall():
        match = _ROLE.fullmatch(str(name))
        if match is None or comment != _comment(UUID(match[1])):
            continue
        claim(server, scratch_name(UUID(match[1])))
        if not claimed(server, scratch_name(UUID(match[1]))):
            drop_loader(server, UUID(match[1]))
            dropped.append(str(name))
    return dropped


def _pinned(db: Connection) -> Connection:
    db.execute("SET search_path = ''")  # the database may have a setting that names hostile functions
    return db


def drop_database(server: Connection, name: str) -> None:
    """Drop it with every connection to it, if there is such a database."""
    if not server.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone():
        return
    server.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
    drop = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    try:
        server.execute(drop + sql.SQL(" WITH (FORCE)" if server.info.server_version >= 130000 else ""))
    except psycopg.errors.InsufficientPrivilege:
        server.execute(drop)  # an autovacuum is the server's own, and not ours to end: without FORCE the server does it


def _comment(run_id: UUID) -> str:
    return f"made by the Ops Control Room's run {run_id}, which drops it"
