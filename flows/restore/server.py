"""What a server must allow before a backup is restored into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from flows.backup.folder import MARGIN_BYTES, megabytes
from flows.backup.postgres import Connection
from opsdb.errors import PreflightError
from opsdb.shown import shown

_BY_PASSWORD = {"trust", "scram-sha-256", "md5", "password"}


def check_may_create(server: Connection) -> None:
    """The role may make databases."""
    row = server.execute(
        "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    if not (row and row[0]):
        raise PreflightError(
            f"role {server.info.user!r} may not create databases: ALTER ROLE {shown(server.info.user)} CREATEDB"
        )


def check_login(server: Connection) -> None:
    """The server lets in, over its socket, a role that is made with a password. Raises PreflightError.

    Over TCP it depends on addresses, and the login itself shows it, before the dump is loaded.
    """
    if not server.info.host.startswith("/"):
        return
    row = server.execute(
        "SELECT auth_method, options IS NOT NULL, line_number FROM pg_catalog.pg_hba_file_rules"
        " WHERE type = 'local' AND 'all' = ANY (database) AND 'all' = ANY (user_name) ORDER BY line_number LIMIT 1"
    ).fetchone()
    if row and row[0] not in _BY_PASSWORD and not row[1]:  # with a map of users, the embedded server's lets all in
        raise PreflightError(
            f"the server's socket lets in by {row[0]!r} only (pg_hba.conf, line {row[2]}), and a dump is loaded over a "
            "role that is made with a password. Hint: put `host all all 127.0.0.1/32 scram-sha-256` into pg_hba.conf, "
            "and give OPS_ODOO_DATABASE_URL that host"
        )


def check_free(server: Connection, *, needed_bytes: int, beside: Sequence[tuple[Path, int]] = ()) -> str | None:
    """The server's disk has room for the restored database, and for what is put into other folders `beside` it, by
    their bytes, where they are on that disk.

    Returns why that is unknown, where it is. Raises PreflightError.
    """
    found = _find_disk(server)
    if isinstance(found, str):
        return found
    others = sum(size for other, size in beside if on_one_disk(other, found.folder))
    if found.free_bytes < needed_bytes + others + MARGIN_BYTES:
        more = f", what else is put on that disk {megabytes(others)}" if others else ""
        raise PreflightError(
            f"the disk of the server's files, {found.folder}, has {megabytes(found.free_bytes)} free; the restored "
            f"database may need {megabytes(needed_bytes)}{more}, and {megabytes(MARGIN_BYTES)} must stay: make room"
        )
    return None


def foresee_full_disk(server: Connection, *, needed_bytes: int, rewritten_bytes: int) -> str | None:
    """A sentence for a warning, where the disk has room for the restored database and perhaps not for rows that are
    written again in it: how many these are, nobody knows before."""
    found = _find_disk(server)
    if isinstance(found, str) or found.free_bytes >= needed_bytes + rewritten_bytes + MARGIN_BYTES:
        return None
    return (
        f"the disk of the server's files, {found.folder}, may become full: it has {megabytes(found.free_bytes)} free, "
        f"the restored database may need {megabytes(needed_bytes)}, and its rules for anonymising up to "
        f"{megabytes(rewritten_bytes)} more. Make room, or delete rows in neutralize.sql first"
    )


@dataclass(frozen=True, slots=True)
class _Disk:
    folder: Path
    """The server's, or the one above that may be looked into."""
    free_bytes: int


def _find_disk(server: Connection) -> _Disk | str:
    """The disk of the server's files, or why that is unknown."""
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
    return _Disk(folder, shutil.disk_usage(folder).free)


def on_one_disk(one: Path, other: Path) -> bool:
    """Whether what is put into one folder takes room from the other."""
    return one.stat().st_dev == other.stat().st_dev
