"""A database that a restore goes into: its name is generated, and whatever ends the work, it is dropped."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from flows.backup.folder import MARGIN_BYTES, megabytes
from flows.backup.manifest import Locale
from flows.backup.postgres import Connection, connect
from flows.engine.active_run import current_run
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError
from opsdb.shown import shown

_NAME = re.compile(r"ops_scratch_([0-9a-f]{32})")
# The server ends a session whose host is gone after two minutes, and with it the session's claim.
_KEEPALIVES = "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6"
_CLAIM_SECONDS = 150
_LOOK_SECONDS = 0.2
_CLAIMS = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity s, pg_catalog.pg_stat_activity mine
    WHERE mine.pid = pg_catalog.pg_backend_pid() AND s.pid <> mine.pid AND s.application_name = %s
          AND (s.usesysid = mine.usesysid
               OR s.usesysid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = %s))
          AND (NOT %s OR (s.backend_start, s.pid) < (mine.backend_start, mine.pid)))
"""


def scratch_name(run_id: UUID) -> str:
    """The scratch database of a run."""
    return f"ops_scratch_{run_id.hex}"


class Scratch:
    """An empty database of one run, from make() until close() drops it, unless keep_as() gave it a name.

    A session with its name says that its run lives; a comment says whose it is. That session is idle while the backup
    is restored: where it was lost, it is made again.
    """

    def __init__(self, url: str, *, run_id: UUID, locale: Locale | None) -> None:
        self.name = scratch_name(run_id)
        self._url = url
        self._run_id = run_id
        self._locale = locale
        self._server: Connection | None = None

    def make(self) -> None:
        """Make the database. Raises StepFailedError where that cannot be done."""
        server = self._hold()
        comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
        try:
            _drop(server, self.name)  # of an earlier attempt of this run
            server.execute(_create(self.name, self._locale, version=server.info.server_version))
            server.execute(comment.format(sql.Identifier(self.name), sql.Literal(_comment(self._run_id))))
        except psycopg.Error as error:
            raise StepFailedError(f"cannot make the scratch database {self.name}: {first_line(error)}") from error

    def keep_as(self, name: str) -> None:
        """Give it its final name. Raises StepFailedError where that is taken, or the database is gone."""
        if self._server is None:
            return
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(self.name), sql.Identifier(name))
        server = self._held(self._server)
        try:
            with server.transaction():
                server.execute(rename)
                server.execute(sql.SQL("COMMENT ON DATABASE {} IS NULL").format(sql.Identifier(name)))
        except psycopg.errors.InvalidCatalogName as error:
            raise StepFailedError(
                f"the restored database {self.name} is not there any more: somebody dropped it, or another run took it "
                "for what a killed one leaves, after the connection that held it was lost. Start the restore again"
            ) from error
        except psycopg.Error as error:
            raise StepFailedError(f"the restored database cannot be named {name}: {first_line(error)}") from error
        server.close()
        self._server = None  # nothing is left to drop

    def drop(self) -> None:
        """Drop it with every connection to it, if there still is one of that name. Raises StepFailedError."""
        if self._server is None:
            return
        server = self._held(self._server)
        try:
            _drop(server, self.name)
        except psycopg.Error as error:
            raise StepFailedError(f"the scratch database {self.name} cannot be dropped: {first_line(error)}") from error

    def close(self) -> None:
        """Drop it, and let go of it. One that cannot be dropped is told, and hides no other error."""
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
            _claim_lasting(server, self.name)
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
            _claim(server, str(name))
            if _claimed(server, str(name)):
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
            f"role {server.info.user!r} may not create databases: ALTER ROLE {shown(server.info.user)} CREATEDB"
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


def _drop(server: Connection, name: str) -> None:
    force = sql.SQL(" WITH (FORCE)" if server.info.server_version >= 130000 else "")
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)) + force)


def _claim(server: Connection, name: str) -> None:
    """Mark the session as at work on a scratch database, for as long as the connection lives.

    A mark and no lock: any login may take an advisory lock by its number, but none can be a session of ours.
    """
    server.execute(sql.SQL("SET application_name = {}").format(sql.Literal(name)))


def _claimed(server: Connection, name: str, *, before_us: bool = False) -> bool:
    """Whether another session of our login, or of the database's owner, claims it; if asked, one from before ours."""
    row = server.execute(_CLAIMS, (name, name, before_us)).fetchone()
    return bool(row and row[0])


def _claim_lasting(server: Connection, name: str) -> None:
    """The same, on a connection that may be idle for an hour. Waits for the end of a session that was cut off.

    Raises StepFailedError where that does not end.
    """
    try:
        server.execute(_KEEPALIVES)
        if server.info.server_version >= 140000:
            server.execute("SET idle_session_timeout = 0")
        _claim(server, name)
        deadline = time.monotonic() + _CLAIM_SECONDS
        while _claimed(server, name, before_us=True):
            if time.monotonic() > deadline:
                raise StepFailedError(
                    f"another process works on {name}, the scratch database of this run, and did not end in "
                    f"{_CLAIM_SECONDS} s: start another run"
                )
            time.sleep(_LOOK_SECONDS)
    except psycopg.Error as error:
        raise StepFailedError(f"the scratch database {name} cannot be claimed: {first_line(error)}") from error


def _comment(run_id: UUID) -> str:
    return f"made by the Ops Control Room's run {run_id}, which drops it"
