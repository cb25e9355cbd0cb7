"""A database that a restore goes into: its name is generated, and whatever ends the work, it is dropped."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from flows.backup_manifest import Locale
from flows.backup_preflight import MARGIN_BYTES, megabytes
from flows.postgres_access import Database, connect
from opsdb.errors import PreflightError, StepFailedError

_NAME = re.compile(r"ops_scratch_([0-9a-f]{32})")


def scratch_name(run_id: UUID) -> str:
    """The scratch database of a run."""
    return f"ops_scratch_{run_id.hex}"


class Scratch:
    """An empty database of one run, from make() until close() drops it, unless keep_as() gave it a name.

    A lock says that its run lives; a comment says whose it is.
    """

    def __init__(self, url: str, *, run_id: UUID, locale: Locale | None) -> None:
        self.name = scratch_name(run_id)
        self._url = url
        self._run_id = run_id
        self._locale = locale
        self._server: Database | None = None

    def make(self) -> None:
        """Make the database. Raises StepFailedError where that cannot be done."""
        self._server = server = connect(self._url)
        if not _lock(server, self.name):
            server.close()
            self._server = None  # not ours to drop
            raise StepFailedError(f"another process works on {self.name}, the scratch database of this run")
        comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
        try:
            _drop(server, self.name)  # of an earlier attempt of this run
            server.execute(_create(self.name, self._locale, version=server.info.server_version))
            server.execute(comment.format(sql.Identifier(self.name), sql.Literal(_comment(self._run_id))))
        except psycopg.Error as error:
            raise StepFailedError(f"cannot make the scratch database {self.name}: {_said(error)}") from error

    def keep_as(self, name: str) -> None:
        """Give it its final name. Raises StepFailedError where that is taken."""
        if self._server is None:
            return
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(self.name), sql.Identifier(name))
        try:
            self._server.execute(rename)
            self._server.execute(sql.SQL("COMMENT ON DATABASE {} IS NULL").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise StepFailedError(f"the restored database cannot be named {name}: {_said(error)}") from error

    def drop(self) -> None:
        """Drop it with every connection to it, if there still is one of that name."""
        if self._server is not None:
            _drop(self._server, self.name)

    def close(self) -> None:
        """Drop it, and let go of the lock."""
        try:
            self.drop()
        finally:
            if self._server is not None:
                self._server.close()


def drop_leftovers(url: str) -> list[str]:
    """Drop the scratch databases of runs that were killed; returns their names.

    Each is one whose comment names the run of its name, and whose lock can be had: no living run works on it.
    """
    dropped = []
    with connect(url) as server:
        rows = server.execute(
            "SELECT datname, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database"
            " WHERE datname LIKE 'ops\\_scratch\\_%' ORDER BY 1"
        ).fetchall()
        for name, comment in rows:
            match = _NAME.fullmatch(str(name))
            if match is None or comment != _comment(UUID(match[1])) or not _lock(server, str(name)):
                continue
            _drop(server, str(name))
            dropped.append(str(name))
    return dropped


def check_may_create(server: Database) -> None:
    """The role may make databases."""
    row = server.execute(
        "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    if not (row and row[0]):
        raise PreflightError(
            f"role {server.info.user!r} may not create databases: ALTER ROLE {server.info.user} CREATEDB"
        )


def check_free(server: Database, *, needed_bytes: int) -> str | None:
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


def _drop(server: Database, name: str) -> None:
    force = sql.SQL(" WITH (FORCE)" if server.info.server_version >= 130000 else "")
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)) + force)


def _lock(server: Database, name: str) -> bool:
    """For as long as the connection lives. Locks belong to one database: it is always that of the URL."""
    row = server.execute(
        "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))", (name,)
    ).fetchone()
    return bool(row and row[0])


def _comment(run_id: UUID) -> str:
    return f"made by the Ops Control Room's run {run_id}, which drops it"


def _said(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0]
