"""A backup turned into a database again, and compared with what its manifest says."""

from __future__ import annotations

import os
import tarfile
import time
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from blocks.fields import BlockName
from flows.backup.attachments import archived, differing_attachments, read_names
from flows.backup.contents import check_server, pin_settings, shown
from flows.backup.folder import Folder, OpenFiles
from flows.backup.grants import RoleMap
from flows.backup.inventory import ROLES
from flows.backup.keyring import room_keyring
from flows.backup.manifest import Manifest
from flows.backup.names import parse_name
from flows.backup.postgres import Access, Connection, access_of, connect
from flows.backup.properties import Properties
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.step import action, step
from flows.offsite.target import Target, load_target
from flows.restore.comparison import compared, differences_from
from flows.restore.fetch import DOWNLOAD_SECONDS, Fetched, find_at_target
from flows.restore.ownership import give_back
from flows.restore.scratch import Scratch, check_free, check_may_create, drop_leftovers
from opsdb.errors import PreflightError, StepFailedError

CHECKSUM_SECONDS = 600
RESTORE_SECONDS = 3600
COMPARE_SECONDS = 900
ATTACHMENTS_SECONDS = 1800
DEADLINE_SECONDS = DOWNLOAD_SECONDS + CHECKSUM_SECONDS + RESTORE_SECONDS + COMPARE_SECONDS + ATTACHMENTS_SECONDS + 120

# The sums come from the manifest, which has one of its own.
CHECKSUM = """\
while read -r sum path name; do
  sha256sum --check --strict --status <<<"$sum  $path" || {
    echo "the backup is damaged: $name is not what was written when it was made" >&2
    exit 65
  }
done <<<"$SUMS"
"""

RESTORE = """\
"$PG_RESTORE" --exit-on-error --no-password --jobs="$JOBS" $OWNERS --no-subscriptions --dbname="$SCRATCH" -- "$DUMP"
"""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a restore needs, found and checked."""

    backup: Backup
    manifest: Manifest
    access: Access
    folder: Folder
    target: Target | None
    """Where the backup is, when the folder has not got it."""
    roles: RoleMap | None = None
    """What stands for the backup's roles; None for a drill, where everything belongs to the room's role."""

    properties: Properties | None = None
    """What the database gets when it is published."""

    @property
    def without(self) -> Collection[str]:
        """What is not compared: whose things are, where nobody brings that back."""
        return ROLES if self.roles is None else ()


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup in a database that was compared with its manifest."""

    scratch: Scratch
    seconds: float
    files: OpenFiles
    refused: list[str]
    """Phrases for owners and privileges that the server did not let us give."""


def find_backup(folder: Folder, database: str, file: str | None, target: Target | None) -> Backup:
    """The named backup of the database, or its newest verified one, in the folder, and else at the target.

    Without a name, an unsigned one only where none is signed. Raises PreflightError.
    """
    backups = folder.backups(database)
    name = parse_name(file) if file else None
    if name is not None and name.database != database:
        raise PreflightError(f"{file} is a backup of {name.database} and not of {database}")
    if file is None:
        there = sorted((one for one in backups if one.verified), key=lambda one: one.signed)
    else:
        there = [one for one in backups if one.name == name]
    if there and (there[-1].verified or target is None):
        return there[-1]
    if target and (found := find_at_target(target, folder, database, name)):
        return found
    if there:
        return there[-1]
    elsewhere = f" and {target.store.place}" if target else ""
    if file is None:
        raise PreflightError(
            f"{folder.path}{elsewhere} holds no verified backup of {database}: make one with odoo_db_backup"
        )
    shown_files = ", ".join(one.name.dump for one in backups[-3:]) or "none"
    raise PreflightError(f"{folder.path}{elsewhere} holds no backup {file}; its newest of {database}: {shown_files}")


def look_up(folder: Folder, database: str, file: str | None, target: BlockName | None) -> Ready:
    """Find the backup, and check all that its restore needs. Changes nothing. Raises PreflightError."""
    place = load_target(target, room_keyring(current_run().settings)) if target else None
    backup = find_backup(folder, database, file, place)
    return check_restorable(backup, folder, None if backup.repository is folder else place)


def check_restorable(backup: Backup, folder: Folder, target: Target | None = None) -> Ready:
    """Check programs, role and disk for the restore of a backup. Changes nothing. Raises PreflightError."""
    run, manifest = current_run(), backup.manifest
    if missing := missing_programs(*PROGRAMS["odoo_restore_drill"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Install coreutils")
    if manifest is None:
        raise PreflightError(f"{backup.url} cannot be restored: {backup.fault()}. Hint: choose another backup")
    with connect(run.settings.odoo_url) as server:
        access = access_of(server, run.settings.pg_bin, dumped_by=manifest.pg_dump_version)
        check_server(server)
        check_may_create(server)
        # a dump is compressed: four times its size where the manifest does not know better
        unknown = check_free(server, needed_bytes=manifest.database_bytes or 4 * manifest.size_bytes)
        if unknown:
            run.event(f"free space of the server was not checked: {unknown}", level="warning")
    return Ready(backup=backup, manifest=manifest, access=access, folder=folder, target=target)


@contextmanager
def restored(ready: Ready) -> Iterator[Restored]:
    """Fetch the backup if it is elsewhere, check its bytes, restore it into a scratch database, and compare it.

    The database is dropped at the end, unless it was kept. Raises StepFailedError for a backup that is not whole.
    """
    manifest = ready.manifest
    action("leftovers", _drop_leftovers, about="drop the scratch databases of runs that were killed")
    with ExitStack() as stack:
        folder = ready.folder.path
        if ready.target is not None:
            fetched = stack.enter_context(Fetched(ready.target, ready.backup, ready.folder))
            fetched.fetch()
            folder = fetched.path
        files = stack.enter_context(OpenFiles(ready.backup, folder))
        action("open files", files.open, about=f"open the files of {manifest.file} in {folder}", must_run_again=True)
        listed = "\n".join(f"{one.sha256} {files.paths[one.file]} {one.file}" for one in manifest.files)
        # its command is the same for every backup: one that was kept might speak for another
        step("checksum", CHECKSUM, timeout=CHECKSUM_SECONDS, env={"SUMS": listed}, must_run_again=True)
        scratch = stack.enter_context(closing(_scratch(ready)))
        yield _restored_into(scratch, ready, files)


def _scratch(ready: Ready) -> Scratch:
    run, manifest = current_run(), ready.manifest
    tablespace = manifest.properties.tablespace if manifest.properties and ready.roles is not None else None
    return Scratch(run.settings.odoo_url, run_id=run.id, locale=manifest.locale, tablespace=tablespace)


def _restored_into(scratch: Scratch, ready: Ready, files: OpenFiles) -> Restored:
    manifest = ready.manifest
    # an older manifest does not say whose things were: the dump does, to a superuser
    keep_owners = ready.roles is not None and manifest.inventory is None and ready.access.superuser
    # dropped when the attempt ends
    action("scratch database", scratch.make, about=f"create {scratch.name}, empty", must_run_again=True)
    started = time.monotonic()
    with ready.access.environment() as access:
        env = access | {"PG_RESTORE": str(ready.access.programs.pg_restore), "DUMP": files.paths[ready.manifest.file]}
        env |= {"SCRATCH": scratch.name, "JOBS": str(min(4, os.cpu_count() or 1))}
        env |= {"OWNERS": "" if keep_owners else "--no-owner --no-privileges"}
        step("restore", RESTORE, timeout=RESTORE_SECONDS, env=env)
    seconds = round(time.monotonic() - started, 3)
    refused = None
    if ready.roles is not None and manifest.inventory is not None:
        refused = action(
            "owners",
            lambda: _give_back(ready, scratch.name),
            about="give all objects their owners and privileges",
            must_run_again=True,
        )
    without = ROLES if refused else ready.without
    action("compare", lambda: _compare(ready, scratch.name, without=without), about=_compared(manifest))
    if manifest.attachments is not None and manifest.filestore is not None:
        archive = files.paths[manifest.filestore.file]
        action(
            "attachments",
            lambda: _compare_attachments(manifest, scratch.name, archive),
            about="read every file that ir_attachment names in the filestore's archive, and compare its SHA-1",
            must_run_again=True,
        )
    return Restored(scratch=scratch, seconds=seconds, files=files, refused=refused or [])


def drill(ready: Ready) -> dict[str, Any]:
    """Restore the backup, compare it and drop it again, as steps of the current runbook; returns what was proven."""
    with restored(ready) as done:
        action("drop", done.scratch.drop, about=f"drop {done.scratch.name}")
    return proof(ready, done)


def proof(ready: Ready, done: Restored) -> dict[str, Any]:
    """What was proven, for the result of a run."""
    return {
        "backup": ready.manifest.file,
        "signature": ready.backup.signature,
        "created_at": ready.manifest.created_at.isoformat(),
        **compared(ready.manifest, without=ROLES if done.refused else ready.without),
        "restore_seconds": done.seconds,
    }


def names_in(database: str) -> set[str]:
    """The files that the rows of a restored database name."""
    with connect(current_run().settings.odoo_url, database=database) as db:
        pin_settings(db, statement_seconds=COMPARE_SECONDS)
        return read_names(db) or set()


def _drop_leftovers() -> None:
    run = current_run()
    if dropped := drop_leftovers(run.settings.odoo_url):
        run.event("dropped the scratch databases of killed runs", level="warning", databases=dropped)


def _compared(manifest: Manifest) -> str:
    if manifest.contents is None:
        return "count the tables: the manifest knows no more"
    if manifest.inventory is None:
        return "count and hash the rows of all tables, and compare them with the manifest"
    return "compare all objects with the manifest, and count and hash the rows of all tables"


def _give_back(ready: Ready, database: str) -> list[str]:
    with connect(current_run().settings.odoo_url, database=database) as db:
        pin_settings(db, statement_seconds=COMPARE_SECONDS)
        if ready.manifest.inventory is None or ready.roles is None:
            return []
        return give_back(db, ready.manifest.inventory, ready.roles)


def _compare(ready: Ready, database: str, *, without: Collection[str]) -> None:
    manifest = ready.manifest
    with connect(current_run().settings.odoo_url, database=database) as db:
        try:
            pin_settings(db, statement_seconds=COMPARE_SECONDS)
            wrong = (
                differences_from(manifest, db, roles=ready.roles, without=without)
                if manifest.contents
                else _count(manifest, db)
            )
        except psycopg.Error as error:
            raise StepFailedError(f"cannot compare the restored database: {str(error).strip()}") from error
    if wrong:
        raise StepFailedError(f"the restored database is not what was dumped: {shown(wrong)}")


def _compare_attachments(manifest: Manifest, database: str, archive: str) -> None:
    if manifest.attachments is None:
        return
    try:
        wrong = differing_attachments(manifest.attachments, names_in(database), archived(archive))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise StepFailedError(f"the archive of the filestore cannot be read: {error}") from error
    if wrong:
        raise StepFailedError(f"the filestore is not what the database needs: {shown(wrong)}")


def _count(manifest: Manifest, db: Connection) -> list[str]:
    row = db.execute(
        "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
    ).fetchone()
    tables = int(str(row[0])) if row else 0
    return [f"it has {tables} tables instead of {manifest.tables}"] if tables < manifest.tables else []
