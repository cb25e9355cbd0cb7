"""Makes a backup of the room itself: one sealed file, while the room runs or not."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from uuid import uuid4

import psycopg

from cli.moving.archive import HOME, OPS, PARTS, PREFECT, ROLES, Manifest, describe_part, write_archive
from cli.moving.databases import OPS_DUMP, PREFECT_DUMP, Snapshot, dump, ops_database, snapshots
from cli.moving.home_files import (
    STAYS,
    entries,
    files_bytes,
    goes_along,
    left_out,
    stays_by_settings,
    write_files,
)
from cli.moving.old_backups import new_name
from cli.moving.roles import RoomRole, read_roles
from cli.moving.server import reached_server
from deployments.room.restoring import check_whole
from deployments.server.access import read_secrets
from flows.backup.folder import check_space
from flows.backup.postgres import Connection
from opsdb.database import first_line
from opsdb.errors import OpsError, UsageError
from opsdb.logins import BY_CERTIFICATE
from opsdb.setting_sources import variable
from opsdb.settings import Settings, load_with_sources
from opsdb.settings_file import NAME as SETTINGS_FILE

FOLDER = "room-backups"
"""In OPS_HOME, for backups that are to be copied elsewhere."""
_UNFINISHED = "SELECT status::text, count(*) FROM ops.runs WHERE finished_at IS NULL GROUP BY 1 ORDER BY 1"
_FILES = ("exporter_tls_cert", "exporter_tls_key", "alert_ca_file", "templates", "runbooks", "prefect_yaml", "pg_bin")
"""Settings that name files of an operator."""


@dataclass(frozen=True)
class Made:
    """A backup, as it was written and read again."""

    path: Path
    size_bytes: int
    manifest: Manifest


def choose_path(settings: Settings, to: Path | None) -> Path:
    """The file of a new backup: the one that is named, or a new name in a folder. Raises UsageError."""
    if to is None:
        return settings.home / FOLDER / new_name()
    path = to.absolute()
    if not path.is_dir() and path.suffix != ".sealed":
        raise UsageError(
            f"--to: there is no folder {path}: make it first, or mount its disk. The name of a file ends in .sealed"
        )
    path = path / new_name() if path.is_dir() else path
    if goes_along(settings, path.parent):
        raise UsageError(
            f"--to: what is in {path.parent} is part of the next backup itself. Hint: leave --to away for {FOLDER} in "
            "OPS_HOME, or name a folder elsewhere"
        )
    if not path.parent.is_dir():
        raise UsageError(f"--to: there is no folder {path.parent}: is its disk mounted?")
    if os.path.lexists(path):
        raise UsageError(f"--to: {path} already exists. Hint: name another file; a backup overwrites none")
    return path


def back_up(settings: Settings, path: Path, passphrase: str) -> Made:
    """Write the backup. Raises OpsError; nothing is left then that looks like one."""
    read_secrets(settings)  # a room that never started has nothing to back up
    check_whole(settings.home)
    if settings.embedded and not (settings.home / "postgres" / "data").exists():
        raise UsageError(
            f"there is no PostgreSQL in {settings.home}, and OPS_DATABASE_URL is not set. Hint: give this command the "
            "environment of the room, such as /etc/ops/room.env; docs/howto/moving-a-room.md shows how"
        )
    without = stays_by_settings(settings)
    if path.parent == settings.home / FOLDER:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with ExitStack() as stack:
            ran = stack.enter_context(reached_server(settings, command="ops db backup"))
            files = {name: stack.enter_context(_spool(settings.home)) for name in PARTS}
            check_space(settings.home, {"the files of the room": files_bytes(settings.home, without)})
            # before the databases: what is delivered meanwhile is in both, and none is in neither
            write_files(settings.home, files[HOME], without)
            ops, prefect = stack.enter_context(snapshots(settings))
            _check_space(settings, path, [ops, prefect], files[HOME].tell())
            roles = read_roles(ops.db, superuser=ops.access.superuser)
            files[ROLES].write(json.dumps([role.document() for role in roles]).encode())
            dump(ops, OPS_DUMP, files[OPS])
            dump(prefect, PREFECT_DUMP, files[PREFECT])
            parts = [describe_part(name, file) for name, file in files.items()]
            manifest = Manifest(
                **_room(settings, ops.db),
                left=_left(settings, roles, superuser=ops.access.superuser) | _other_databases(settings, ops.db),
                id=uuid4(),
                created_at=datetime.now(UTC),
                room_ran=ran,
                server_version=ops.access.server_version,
                pg_dump_version=ops.access.programs.version,
                ops_snapshot_at=ops.taken_at,
                prefect_snapshot_at=prefect.taken_at,
                database_bytes=ops.table_bytes + prefect.table_bytes,
                roles=[role.name for role in roles if not role.bare],
                parts=parts,
            )
            write_archive(path, passphrase, manifest, files)
    except (OSError, psycopg.Error) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else first_line(error)
        raise OpsError(f"the backup could not be made ({why}): nothing is left of it") from error
    return Made(path, path.stat().st_size, manifest)


@contextmanager
def _spool(home: Path) -> Iterator[IO[bytes]]:
    """A file without a name on the room's own disk: what is in it is gone with this process, however that ends."""
    with TemporaryFile(dir=home) as file:
        yield file


def _check_space(settings: Settings, path: Path, databases: list[Snapshot], files_bytes: int) -> None:
    """Both disks have room: dumps are compressed, and may take as much as their tables all the same."""
    needed = {"the dumps": sum(one.table_bytes for one in databases)}
    sealed = needed | {"the files of the room": files_bytes}
    if path.parent.stat().st_dev == settings.home.stat().st_dev:
        needed["the sealed backup"] = sum(sealed.values())
    else:
        check_space(path.parent, sealed)
    check_space(settings.home, needed)


def _room(settings: Settings, db: Connection) -> dict[str, object]:
    revision = db.execute("SELECT version_num FROM ops.alembic_version").fetchone()
    if revision is None:
        raise OpsError("the ops database has no revision. Hint: `ops db upgrade` brings it up to date")
    return {
        "host": socket.gethostname(),
        "home": str(settings.home),
        "ops_version": version("ops-control-room"),
        "prefect_version": version("prefect"),
        "schema_revision": str(revision[0]),
        "unfinished": {str(status): int(str(count)) for status, count in db.execute(_UNFINISHED).fetchall()},
        "entries": entries(settings.home, stays_by_settings(settings)),
        "settings_file": _settings_file(settings.home),
        "environment": _environment(),
    }


def _settings_file(home: Path) -> str:
    try:
        return (home / SETTINGS_FILE).read_text()
    except FileNotFoundError:
        return ""


def _left(settings: Settings, roles: list[RoomRole], *, superuser: bool) -> dict[str, str]:
    """What is there, belongs to the room, and is not in the backup."""
    found = {
        name: why
        for name, why in STAYS.items()
        if why.startswith(("backups", "output")) and (settings.home / name).exists()
    }
    named = {variable(name): getattr(settings, name) for name in _FILES if name in settings.model_fields_set}
    outside = {one: str(path) for one, path in named.items() if path and not Path(path).is_relative_to(settings.home)}
    found |= {name: f"{path}: copy it yourself" for name, path in outside.items()}
    unread = [one.name for one in roles if one.login and one.comment != BY_CERTIFICATE and not superuser]
    found |= {f"the password of {name}": f"`ops db login {name} --new` gives it one there" for name in unread}
    return found | left_out(settings.home, stays_by_settings(settings))


def _other_databases(settings: Settings, db: Connection) -> dict[str, str]:
    """Those of the room's own PostgreSQL, which stays where it is."""
    if not settings.embedded:
        return {}
    own = [ops_database(settings), settings.prefect_database, "postgres"]
    query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> ALL (%s) ORDER BY 1"
    names = [str(name) for (name,) in db.execute(query, [own]).fetchall()]
    moves = "is in the room's own PostgreSQL: odoo_db_backup and odoo_db_restore take it along"
    return {f"the database {name}": moves for name in names}


def _environment() -> list[str]:
    sources = load_with_sources().sources
    return sorted(variable(name) for name, source in sources.items() if source.kind == "environment" and name != "home")
