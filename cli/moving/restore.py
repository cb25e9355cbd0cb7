"""Restores a room from its backup into this OPS_HOME and onto this PostgreSQL server.

All of the backup is verified before anything changes. From then on `OPS_HOME/restoring/begun.json` stands there: no
room starts, and the same command goes on where it was interrupted. What stood there before is renamed, never deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO
from uuid import uuid4

import psycopg
from sqlalchemy.exc import DBAPIError

from cli.moving.archive import HOME, OPS, PREFECT, ROLES, Manifest, read_manifest, unpack_archive, verify_archive
from cli.moving.databases import connected, holds, load, maintenance, ops_database, put_aside
from cli.moving.home_files import aside, in_the_way, unpack_files
from cli.moving.roles import RoomRole, make_roles, read_roles
from cli.moving.server import running_server
from cli.moving.settle import settle
from deployments.room.databases import upgrade_databases
from deployments.room.report import only_supervisor
from deployments.room.restoring import Begun, clear, drop_unbegun, read_begun, staging, write_begun
from flows.backup.folder import check_space
from flows.backup.programs import major_of
from opsdb.database import first_line
from opsdb.errors import OpsError, UsageError
from opsdb.migrate import revisions
from opsdb.private_files import replace_private
from opsdb.public_access import maintaining
from opsdb.roles import OF_EVERY_ROOM, execute, plan_roles
from opsdb.settings import Settings
from opsdb.settings_file import NAME as SETTINGS_FILE

OLD_SETTINGS = f"{SETTINGS_FILE}.before-move"
"""How the settings file of the old room is called where this one has its own."""
_FILES = "home"

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did, or in a dry run would do."""

    manifest: Manifest
    take_over: bool
    put_aside: list[str]
    """Names of files and databases, as they are called now."""
    kept_settings: bool
    """Whether this host's settings file stayed, and that of the old room stands beside it."""


def check_versions(manifest: Manifest, *, name: str) -> None:
    """Raise UsageError for a backup of a room that is newer than this code."""
    if manifest.schema_revision not in revisions():
        raise UsageError(
            f"{name} holds a record at revision {manifest.schema_revision}, which this version does not know: it is of "
            f"a newer room (ops {manifest.ops_version}). Hint: install that version here first"
        )
    if _numbers(manifest.prefect_version) > _numbers(version("prefect")):
        raise UsageError(
            f"{name} holds a database of Prefect {manifest.prefect_version}, and here is Prefect {version('prefect')}. "
            "Hint: install the version of the room that made it"
        )


def verify(settings: Settings, file: Path, passphrase: str, *, replace: bool, take_over: bool) -> Restored:
    """Verify a backup, and say what restoring it would do. Nothing changes. Raises OpsError."""
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(file))
        if settings.home.exists():
            stack.enter_context(only_supervisor(settings.home))
        manifest = verify_archive(opened, passphrase, name=str(file))
        check_versions(manifest, name=str(file))
        found = dict.fromkeys(_databases(settings), False)
        if not settings.embedded or (settings.home / "postgres" / "data").exists():
            stack.enter_context(running_server(settings))
            _check_server(settings, manifest, name=str(file))
            found = _held(settings)
        files = in_the_way(settings.home)
        _check_free(settings, files, found, replace=replace)
        stamp = _stamp(datetime.now(UTC))
        return _outcome(settings, manifest, stamp, files, found, take_over=take_over)


def restore(
    settings: Settings, file: Path, passphrase: str, *, replace: bool, take_over: bool, tell: Tell = lambda _line: None
) -> Restored:
    """Restore a backup, or go on with the restore of it that was interrupted.

    `tell` gets a line for each thing that is done. Raises UsageError for a room that runs, a backup that is damaged or
    too new, and for what would be lost without `replace`; OpsError for what fails, which a repetition goes on with.
    """
    with only_supervisor(settings.home), _opened(file) as opened:
        try:
            return _restore(settings, file, opened, passphrase, replace=replace, take_over=take_over, tell=tell)
        finally:
            drop_unbegun(settings.home)


def _restore(
    settings: Settings, file: Path, opened: IO[bytes], passphrase: str, *, replace: bool, take_over: bool, tell: Tell
) -> Restored:
    begun = read_begun(settings.home)
    if begun is None:
        tell("verifying the backup")
        manifest = _unpack(settings, opened, passphrase, file)
    else:
        manifest = read_manifest(opened, passphrase, name=str(file))
        _check_same(begun, manifest, take_over=take_over, home=settings.home)
        tell("going on with the restore that was interrupted")
    with running_server(settings):
        _check_server(settings, manifest, name=str(file))
        if begun is None:
            files, found = in_the_way(settings.home), _held(settings)
            _check_free(settings, files, found, replace=replace)
            begun = _begin(settings, file, manifest, found, take_over=take_over)
        try:
            outcome = _carry_out(settings, manifest, begun, tell)
        except (OSError, psycopg.Error, DBAPIError) as error:
            why = error.strerror if isinstance(error, OSError) else first_line(error)
            raise OpsError(
                f"the restore stopped ({why}). Hint: correct that, then repeat the command, which goes on from here"
            ) from error
    clear(settings.home)
    return outcome


def _unpack(settings: Settings, opened: IO[bytes], passphrase: str, file: Path) -> Manifest:
    """The parts, proven and on the disk below the staging folder; nothing of the room has changed yet."""
    place = staging(settings.home)
    drop_unbegun(settings.home)  # of a restore that was killed before it began
    manifest = read_manifest(opened, passphrase, name=str(file))
    check_versions(manifest, name=str(file))
    needed = {"the backup": manifest.size_bytes, "the databases": manifest.database_bytes * settings.embedded}
    check_space(settings.home, needed)
    opened.seek(0)
    place.mkdir(mode=0o700)
    try:
        unpack_archive(opened, passphrase, name=str(file), to=place)
        (place / _FILES).mkdir(mode=0o700)
        unpack_files(place / HOME, place / _FILES)
    except OSError as error:
        raise OpsError(f"{file} could not be unpacked into {place}: {error.strerror}; nothing was changed") from error
    return manifest


def _begin(settings: Settings, file: Path, manifest: Manifest, found: dict[str, bool], *, take_over: bool) -> Begun:
    now = datetime.now(UTC)
    begun = Begun(
        archive=manifest.id,
        file=str(file),
        begun_at=now,
        stamp=_stamp(now),
        replaced=[part for part, there in found.items() if there],
        room=uuid4(),
        take_over=take_over,
    )
    write_begun(settings.home, begun)
    return begun


def _carry_out(settings: Settings, manifest: Manifest, begun: Begun, tell: Tell) -> Restored:
    """All that changes something. Each step is done once, however often this is repeated."""
    place, names = staging(settings.home), _databases(settings)
    if _OPS in begun.replaced:
        _keep_roles(settings, settings.home / aside(begun.stamp))
    for part in begun.replaced:
        put_aside(settings, names[part], _aside_database(names[part], begun.stamp))
    with maintaining(settings.ops_url, maintenance(settings)) as db:
        execute(db, plan_roles(db, OF_EVERY_ROOM))
    with connected(settings, maintenance(settings)) as db:
        make_roles(db, [RoomRole(**role) for role in json.loads((place / ROLES).read_text())])
    for part, dump, options in ((_OPS, OPS, ()), (_PREFECT, PREFECT, ("--no-owner", "--no-privileges"))):
        if not holds(settings, part, names[part]):
            tell(f"loading the database {names[part]}")
            load(settings, names[part], place / dump, dumped_by=manifest.pg_dump_version, options=options)
    settle(settings, room=begun.room, take_over=begun.take_over)
    tell("bringing the databases up to date")
    upgrade_databases(settings)
    _place_files(settings.home, place / _FILES, begun.stamp)
    files = settings.home / aside(begun.stamp)
    found = {part: part in begun.replaced for part in names}
    kept = [one.name for one in files.iterdir()] if files.is_dir() else []
    return _outcome(settings, manifest, begun.stamp, sorted(kept), found, take_over=begun.take_over)


def _keep_roles(settings: Settings, old: Path) -> None:
    """Note the roles as they are: those of the same names become what they are in the backup."""
    old.mkdir(mode=0o700, exist_ok=True)
    if (old / ROLES).exists():
        return
    with connected(settings, ops_database(settings)) as db:
        roles = read_roles(db, superuser=db.info.parameter_status("is_superuser") == "on")
    replace_private(old / ROLES, json.dumps([role.document() for role in roles], indent=2))


def _place_files(home: Path, staged: Path, stamp: str) -> None:
    """Put what was there aside, and what was unpacked into its place, by renames."""
    old = home / aside(stamp)
    placed = staged.with_name("placing")
    if not placed.exists():
        for name in in_the_way(home):
            old.mkdir(mode=0o700, exist_ok=True)
            (home / name).rename(old / name)
        placed.touch()  # from here on, what is in the way is what came out of the backup
    for one in sorted(staged.iterdir()):
        name = OLD_SETTINGS if one.name == SETTINGS_FILE and (home / SETTINGS_FILE).exists() else one.name
        one.rename(home / name)


def _check_free(settings: Settings, files: list[str], found: dict[str, bool], *, replace: bool) -> None:
    there = [f"{settings.home / name}" for name in files]
    there += [f"the database {name}" for part, name in _databases(settings).items() if found[part]]
    if there and not replace:
        shown = ", ".join(there[:5]) + f" and {len(there) - 5} more" * (len(there) > 5)
        raise UsageError(
            f"there is a room here already: {shown}. Hint: choose another OPS_HOME, or give --replace, which keeps all "
            "of that under other names"
        )


def _check_same(begun: Begun, manifest: Manifest, *, take_over: bool, home: Path) -> None:
    if begun.archive != manifest.id:
        raise UsageError(
            f"the restore of another backup, {begun.file}, was interrupted in {home}. Hint: repeat that, or choose "
            "another OPS_HOME"
        )
    if begun.take_over != take_over:
        was = "with" if begun.take_over else "without"
        raise UsageError(f"the restore that was interrupted here began {was} --take-over: repeat it so")


def _check_server(settings: Settings, manifest: Manifest, *, name: str) -> None:
    with connected(settings, maintenance(settings)) as db:
        here = db.info.parameter_status("server_version") or "0"
    if major_of(here) < major_of(manifest.server_version):
        raise UsageError(
            f"{name} is of PostgreSQL {manifest.server_version}, and the server here is {here}. Hint: set "
            f"OPS_DATABASE_URL to a server of version {major_of(manifest.server_version)} or newer"
        )


def _outcome(
    settings: Settings, manifest: Manifest, stamp: str, files: list[str], found: dict[str, bool], *, take_over: bool
) -> Restored:
    names = _databases(settings)
    kept = [str(settings.home / aside(stamp) / name) for name in files]
    kept += [f"the database {_aside_database(names[part], stamp)}" for part, there in found.items() if there]
    return Restored(
        manifest=manifest,
        take_over=take_over,
        put_aside=kept,
        kept_settings=SETTINGS_FILE in manifest.entries and (settings.home / OLD_SETTINGS).exists(),
    )


_OPS, _PREFECT = "ops", "prefect"


def _databases(settings: Settings) -> dict[str, str]:
    return {_OPS: ops_database(settings), _PREFECT: settings.prefect_database}


def _held(settings: Settings) -> dict[str, bool]:
    return {part: holds(settings, part, name) for part, name in _databases(settings).items()}


def _aside_database(name: str, stamp: str) -> str:
    return f"{name[:40]}_before_{stamp}"  # a name has 63 bytes


def _stamp(at: datetime) -> str:
    return f"{at:%Y%m%dt%H%M%Sz}"


def _opened(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise UsageError(f"FILE: {file} cannot be read: {error.strerror}") from None


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)[:3]]
