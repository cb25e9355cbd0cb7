"""Restores a room from its backup into this OPS_HOME and onto this PostgreSQL server.

All of the backup is verified before anything changes. From then on `OPS_HOME/restoring/begun.json` stands there: no
room starts, and the same command resumes where it was interrupted. What stood there before is renamed, never deleted.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace as replace_fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import uuid4

import psycopg
from sqlalchemy.exc import DBAPIError

from cli.moving.archive import HOME, OPS, PREFECT, ROLES, Manifest, read_manifest, unpack_archive, verify_archive
from cli.moving.checks import OPS as OPS_PART
from cli.moving.checks import PREFECT as PREFECT_PART
from cli.moving.checks import (
    check_free,
    check_same,
    check_server,
    check_target,
    check_versions,
    databases_of,
    in_effect_after,
    keeps_settings,
    lacking_settings,
    place_of,
    roles_here,
)
from cli.moving.databases import aside_database, connected, holds, is_there, load, maintenance, put_aside
from cli.moving.home_files import aside, in_the_way, unpack_files
from cli.moving.outcome import Restored, outcome_of
from cli.moving.roles import RoomRole, make_roles
from cli.moving.server import reached_server, running_server
from cli.moving.settle import settle
from deployments.room.databases import upgrade_databases
from deployments.room.report import only_supervisor
from deployments.room.restoring import Begun, clear, drop_unbegun, read_begun, staging, write_begun
from flows.backup.folder import check_space
from opsdb.database import first_line
from opsdb.errors import OpsError, UsageError
from opsdb.private_files import replace_private
from opsdb.public_access import maintaining
from opsdb.roles import OF_EVERY_ROOM, execute, plan_roles
from opsdb.settings import Settings
from opsdb.settings_file import NAME as SETTINGS_FILE

OLD_SETTINGS = f"{SETTINGS_FILE}.before-move"
"""How the settings file of the old room is called where this one has its own."""
_FILES = "home"
_PLACING = "placing"

Tell = Callable[[str], None]


def verify(settings: Settings, file: Path, passphrase: str, *, replace: bool, take_over: bool) -> Restored:
    """Verify a backup, and say what restoring it would do. Nothing changes. Raises OpsError."""
    with _readable(settings.home), ExitStack() as stack:
        opened = stack.enter_context(_opened(file))
        if settings.home.exists() and not settings.home.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(settings.home))
        manifest = verify_archive(opened, passphrase, name=str(file))
        check_versions(manifest, name=str(file))
        settings = in_effect_after(settings, manifest, name=str(file))
        found, files, runs = dict.fromkeys(databases_of(settings), False), in_the_way(settings.home), False
        if not settings.embedded or (settings.home / "postgres" / "data").exists():
            runs = stack.enter_context(reached_server(settings, command="ops db restore --dry-run"))
            check_server(settings, manifest, name=str(file), stopped=not runs)
            found = check_target(settings, manifest, files, replace=replace)
        check_free(settings, files, found, replace=replace)
        stamp = _stamp(datetime.now(UTC))
        keeps = keeps_settings(settings, manifest)
        outcome = outcome_of(settings, manifest, stamp, files, found, take_over=take_over, kept_settings=keeps)
        return replace_fields(outcome, runs_here=runs)


def restore(
    settings: Settings, file: Path, passphrase: str, *, replace: bool, take_over: bool, tell: Tell = lambda _line: None
) -> Restored:
    """Restore a backup, or resume an interrupted restore of it.

    `tell` gets a line for each thing that is done. Raises UsageError for a room that runs, a backup that is damaged or
    too new, and for what would be lost without `replace`; OpsError for what fails, which a repetition resumes from.
    """
    with (
        _readable(settings.home),
        only_supervisor(settings.home, command="ops db restore"),
        _opened(file) as opened,
    ):
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
        settings = in_effect_after(settings, manifest, name=str(file))
        if lacking := lacking_settings(manifest):
            tell(f"the old room had from its environment, and here they are not set: {', '.join(lacking)}")
    else:
        manifest = read_manifest(opened, passphrase, name=str(file))
        check_same(begun, manifest, settings, take_over=take_over)
        settings = settings.model_copy(update={"prefect_database": begun.prefect_database})
        tell("resuming the interrupted restore")
    with running_server(settings):
        check_server(settings, manifest, name=str(file))
        if begun is None:
            found = check_target(settings, manifest, in_the_way(settings.home), replace=replace)
            begun = _begin(settings, file, manifest, found, take_over=take_over)
        try:
            outcome = _carry_out(settings, manifest, begun, tell)
        except (OSError, psycopg.Error, DBAPIError, OpsError) as error:
            raise _stopped(settings, begun, error) from error
    clear(settings.home)
    return outcome


def _stopped(settings: Settings, begun: Begun, error: Exception) -> OpsError:
    """The error for a restore that failed. A restore that has not renamed or loaded anything yet is given up."""
    why = str(error) if isinstance(error, OpsError) else first_line(error)
    if isinstance(error, OSError):
        why = error.strerror or str(error)
    try:
        untouched = _untouched(settings, begun)
    except (OSError, psycopg.Error, DBAPIError, OpsError):
        untouched = False  # the server does not say: a repetition finds out
    if not untouched:
        return OpsError(
            f"the restore stopped ({why}). Hint: correct that, then repeat the command; it resumes from here"
        )
    clear(settings.home)
    return OpsError(
        f"the restore stopped ({why}), and is given up: nothing was renamed or loaded. Hint: correct that, then "
        "restore again"
    )


def _untouched(settings: Settings, begun: Begun) -> bool:
    """Whether no database was renamed or loaded yet. Roles may have been made."""
    names = databases_of(settings)
    if (staging(settings.home) / _PLACING).exists():
        return False
    there = [is_there(settings, aside_database(names[part], begun.stamp)) for part in begun.replaced]
    loaded = [holds(settings, part, name) for part, name in names.items() if part not in begun.replaced]
    return not any(there + loaded)


def _unpack(settings: Settings, opened: IO[bytes], passphrase: str, file: Path) -> Manifest:
    """The parts, proven and on the disk below the staging folder; nothing of the room has changed yet."""
    place = staging(settings.home)
    drop_unbegun(settings.home)  # of a restore that was killed before it began
    manifest = read_manifest(opened, passphrase, name=str(file))
    check_versions(manifest, name=str(file))
    needed = {"the backup": manifest.size_bytes, "the databases": manifest.database_bytes * settings.embedded}
    check_space(settings.home, needed)
    opened.seek(0)
    try:
        place.mkdir(mode=0o700)
        unpack_archive(opened, passphrase, name=str(file), to=place)
        (place / _FILES).mkdir(mode=0o700)
        unpack_files(place / HOME, place / _FILES)
    except OSError as error:
        raise OpsError(
            f"{file} could not be unpacked into {place}: {error.strerror or error}; nothing was changed"
        ) from error
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
        prefect_database=settings.prefect_database,
        server=place_of(settings),
        keeps_settings=keeps_settings(settings, manifest),
    )
    write_begun(settings.home, begun)
    return begun


def _carry_out(settings: Settings, manifest: Manifest, begun: Begun, tell: Tell) -> Restored:
    """All that changes something. Each step is done once, however often this is repeated."""
    place, names = staging(settings.home), databases_of(settings)
    if OPS_PART in begun.replaced:
        _keep_roles(settings, settings.home / aside(begun.stamp))
    with maintaining(settings.ops_url, maintenance(settings)) as db:
        execute(db, plan_roles(db, OF_EVERY_ROOM))
    with connected(settings, maintenance(settings)) as db:
        make_roles(db, [RoomRole(**role) for role in json.loads((place / ROLES).read_text())])
    for part in begun.replaced:
        put_aside(settings, names[part], aside_database(names[part], begun.stamp))
    for part, dump, options in ((OPS_PART, OPS, ()), (PREFECT_PART, PREFECT, ("--no-owner", "--no-privileges"))):
        if not holds(settings, part, names[part]):
            tell(f"loading the database {names[part]}")
            load(settings, names[part], place / dump, dumped_by=manifest.pg_dump_version, options=options)
    settle(settings, manifest, room=begun.room, take_over=begun.take_over)
    tell("bringing the databases up to date")
    upgrade_databases(settings)
    _place_files(settings.home, place / _FILES, begun.stamp)
    files = settings.home / aside(begun.stamp)
    found = {part: part in begun.replaced for part in names}
    kept = [one.name for one in files.iterdir()] if files.is_dir() else []
    decided = {"take_over": begun.take_over, "kept_settings": begun.keeps_settings}
    return outcome_of(settings, manifest, begun.stamp, sorted(kept), found, **decided)


def _keep_roles(settings: Settings, old: Path) -> None:
    """Note the roles as they are: those of the same names become what they are in the backup."""
    old.mkdir(mode=0o700, exist_ok=True)
    if (old / ROLES).exists():
        return
    replace_private(old / ROLES, json.dumps([role.document() for role in roles_here(settings)], indent=2))


def _place_files(home: Path, staged: Path, stamp: str) -> None:
    """Put what was there aside, and what was unpacked into its place, by renames."""
    old = home / aside(stamp)
    placed = staged.with_name(_PLACING)
    if not placed.exists():
        for name in in_the_way(home):
            old.mkdir(mode=0o700, exist_ok=True)
            (home / name).rename(old / name)
        placed.touch()  # from here on, what is in the way is what came out of the backup
    for one in sorted(staged.iterdir()):
        name = OLD_SETTINGS if one.name == SETTINGS_FILE and (home / SETTINGS_FILE).exists() else one.name
        one.rename(home / name)


def _stamp(at: datetime) -> str:
    return f"{at:%Y%m%dt%H%M%Sz}"


@contextmanager
def _readable(home: Path) -> Iterator[None]:
    """Turn what the disk of OPS_HOME or the file does not allow, before anything changes, into OpsError."""
    try:
        yield
    except OSError as error:
        raise OpsError(f"{error.filename or home}: {error.strerror or error}") from error


def _opened(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise UsageError(f"FILE: {file} cannot be read: {error.strerror}") from None
