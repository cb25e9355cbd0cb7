"""A database that a restore goes into: its name is generated, and whatever ends the work, it is dropped."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from flows.backup.folder import MARGIN_BYTES, megabytes
from flows.backup.manifest import Locale
from flows.backup.postgres import Connection, connect
from flows.backup.properties import Properties
from flows.engine.active_run import current_run
from flows.restore.properties import bring_back
from opsdb.errors import PreflightError, StepFailedError

_NAME = re.compile(r"ops_scratch_([0-9a-f]{32})")
# The server ends a session whose host is gone after two minutes, and with it the session's lock.
_KEEPALIVES = "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6"
_LOCK_SECONDS = 150


def scratch_name(run_id: UUID) -> str:
    """The scratch database of a run."""
    return f"ops_scratch_{run_id.hex}"


class Scratch:
    """An empty database of one run, from make() until close() drops it, unless keep_as() gave it a name.

    A lock says that its run lives; a comment says whose it is. The connection with the lock is idle while the backup is
    restored: where it was lost, it is made again.
    """

    def __init__(self, url: str, *, run_id: UUID, locale: Locale | None, tablespace: str | None = None) -> None:
        self.name = scratch_name(run_id)
        self._url = url
        self._run_id = run_id
        self._locale = locale
        self._tablespace = tablespace
        self._server: Connection | None = None

    def make(self) -> None:
        """Make the database. Raises StepFailedError where that cannot be done."""
        server = self._hold()
        comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
        try:
            _drop(server, self.name)  # of an earlier attempt of this run
            create = _create(self.name, self._locale, version=server.info.server_version)
            server.execute(create + _in_tablespace(server, self._tablespace))
            server.execute(comment.format(sql.Identifier(self.name), sql.Literal(_comment(self._run_id))))
        except psycopg.Error as error:
            raise StepFailedError(f"cannot make the scratch database {self.name}: {_said(error)}") from error

    def keep_as(self, name: str, properties: Properties | None = None) -> list[str]:
        """Give it its final name and its properties, at once; returns phrases for those that the server refused.

        Raises StepFailedError where the name is taken, or the database is gone.
        """
        refused: list[str] = []
        if self._server is None:
            return refused
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(self.name), sql.Identifier(name))
        server = self._held(self._server)
        try:
            with server.transaction():
                server.execute(rename)
                server.execute(sql.SQL("COMMENT ON DATABASE {} IS NULL").format(sql.Identifier(name)))
                if properties is not None:
                    refused = bring_back(server, name, properties)
        except psycopg.errors.InvalidCatalogName as error:
            raise StepFailedError(
                f"the restored database {self.name} is not there any more: somebody dropped it, or another run took it "
                "for what a killed one leaves, after the connection that held it was lost. Start the restore again"
            ) from error
        except psycopg.Error as error:
            raise StepFailedError(f"the restored database cannot be named {name}: {_said(error)}") from error
        server.close()
        self._server = None  # nothing is left to drop
        return refused

    def drop(self) -> None:
        """Drop it with every connection to it, if there still is one of that name. Raises StepFailedError."""
        if self._server is None:
            return
        server = self._held(self._server)
        try:
            _drop(server, self.name)
        except psycopg.Error as error:
            raise StepFailedError(f"the scratch database {self.name} cannot be dropped: {_said(error)}") from error

    def close(self) -> None:
        """Drop it, and let go of the lock. One that cannot be dropped is told, and hides no other error."""
        try:
            self.drop()
        except StepFailedError as error:
            current_run().event(f"{error}. The next restore or drill drops it", level="warning")
        finally:
            if self._server is not None:
                self._server.close()

    def _held(self, server: Connection) -> Connection:
        """The connection with the lock, made again where it was lost. Raises StepFailedError where that cannot be."""
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError as error:
            current_run().event(f"the connection that held {self.name} was lost: {_said(error)}", level="warning")
            server.close()
            return self._hold()
        return server

    def _hold(self) -> Connection:
        self._server = None  # without the lock it is not ours to drop
        try:
            server = connect(self._url)
        except PreflightError as error:
            raise StepFailedError(f"the scratch database {self.name} is out of reach: {error}") from error
        try:
            _lock_lasting(server, self.name)
        except BaseException:
            server.close()
            raise
        self._server = server
        return server


def drop_leftovers(url: str) -> list[str]:
    """Drop the scratch databases of runs that were killed; returns their names.

    Each is one whose comment names the run of its name, whose lock can be had, and to which nobody is connected: no
    living run works on it, nor the pg_restore of one that lost its lock.
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
            if match is None or comment != _comment(UUID(match[1])) or not _lock(server, str(name)):
                continue
            _drop(server, str(name))
            dropped.append(str(name))
    return dropped


def check_may_create(server: Connection) -> None:
    """The role may make databases."""
    row = server.execute(
        "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    if not (row and row[0]):
        raise PreflightError(
            f"role {server.info.user!r} may not create databases: ALTER ROLE {server.info.user} CREATEDB"
        )


def check_free(server: Connection, *, needed_bytes: int) -> str | None:
    """The server's disk has room for the restored database. Returns why that cannot be told, where it cannot."""
    if not (server.info.host.startswith("/") or server.info.hostaddr in ("127.0.0.1", "::1")):
        return f"the server is on another host, {server.info.host}"
    try:
        row = server.execute("SELECT pg_catalog.current_setting('data_directory')").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return "the role may not ask where the server's files are: GRANT pg_read_all_settings"
    folder = Path(str(row[0]) if row else "/")
    try:
        folder.stat()
    except FileNotFoundError:
        return f"the server's folder {folder} is not on this host"
    except PermissionError:
        while not os.access(folder, os.F_OK):
            folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + MARGIN_BYTES:
        raise PreflightError(
            f"the disk of the server's files, {folder}, has {megabytes(free)} free; the restored database may need "
            f"{megabytes(needed_bytes)} and {megabytes(MARGIN_BYTES)} must stay: make room"
        )
    return None


def _create(name: str, locale: Locale | None, *, version: int) -> sql.Composed:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
    if locale is None:
        return create
    options = {"ENCODING": locale.encoding, "LC_COLLATE": locale.collate, "LC_CTYPE": locale.ctype}
    if locale.provider in ("i", "b") and locale.locale and version >= 150000:
        options["LOCALE_PROVIDER"] = "icu" if locale.provider == "i" else "builtin"
        options["ICU_LOCALE" if locale.provider == "i" else "BUILTIN_LOCALE"] = locale.locale
    elif version >= 150000:
        options["LOCALE_PROVIDER"] = "libc"
    words = [sql.SQL(f"{word} {{}}").format(sql.Literal(value)) for word, value in options.items()]
    return create + sql.SQL(" ") + sql.SQL(" ").join(words)


def _in_tablespace(server: Connection, name: str | None) -> sql.Composable:
    """Where the server has it and the login may use it. Preflight has named one that cannot be had."""
    query = "SELECT pg_catalog.has_tablespace_privilege(oid, 'CREATE') FROM pg_catalog.pg_tablespace WHERE spcname = %s"
    row = server.execute(query, (name,)).fetchone() if name else None
    return sql.SQL(" TABLESPACE {}").format(sql.Identifier(str(name))) if row and row[0] else sql.SQL("")


def _drop(server: Connection, name: str) -> None:
    force = sql.SQL(" WITH (FORCE)" if server.info.server_version >= 130000 else "")
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)) + force)


def _lock(server: Connection, name: str) -> bool:
    """For as long as the connection lives. Locks belong to one database: it is always that of the URL."""
    row = server.execute(
        "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))", (name,)
    ).fetchone()
    return bool(row and row[0])


def _lock_lasting(server: Connection, name: str) -> None:
    """The same, on a connection that may be idle for an hour. Waits for the end of a session that was cut off.

    Raises StepFailedError where the lock cannot be had.
    """
    try:
        server.execute(_KEEPALIVES)
        if server.info.server_version >= 140000:
            server.execute("SET idle_session_timeout = 0")
        server.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'".encode())
        server.execute("SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended(%s, 0))", (name,))
        server.execute("SET lock_timeout = 0")
    except psycopg.errors.LockNotAvailable:
        raise StepFailedError(
            f"another process works on {name}, the scratch database of this run, and did not end in {_LOCK_SECONDS} s: "
            "start another run"
        ) from None
    except psycopg.Error as error:
        raise StepFailedError(f"the scratch database {name} cannot be locked: {_said(error)}") from error


def _comment(run_id: UUID) -> str:
    return f"made by the Ops Control Room's run {run_id}, which drops it"


def _said(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0]
