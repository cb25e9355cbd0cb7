"""What a server must allow before a backup is restored into it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg

from flows.backup.folder import MARGIN_BYTES, megabytes
from flows.backup.postgres import Connection
from opsdb.errors import PreflightError
from opsdb.shown import shown


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
