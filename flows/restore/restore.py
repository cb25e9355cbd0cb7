"""A backup turned into a database again, and compared with what its manifest says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from blocks.fields import BlockName
from flows.backup.contents import check_server, differences, pin_settings, shown
from flows.backup.folder import Folder, OpenFiles
from flows.backup.keyring import room_keyring
from flows.backup.manifest import Manifest
from flows.backup.names import parse_name
from flows.backup.postgres import Access, Connection, access_of, connect
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.step import action, step
from flows.offsite.target import Target, load_target
from flows.restore.fetch import DOWNLOAD_SECONDS, Fetched, find_at_target
from flows.restore.scratch import Scratch, check_free, check_may_create, drop_leftovers
from opsdb.errors import PreflightError, StepFailedError

CHECKSUM_SECONDS = 600
RESTORE_SECONDS = 3600
COMPARE_SECONDS = 900
DEADLINE_SECONDS = DOWNLOAD_SECONDS + CHECKSUM_SECONDS + RESTORE_SECONDS + COMPARE_SECONDS + 120

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


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup in a database that was compared with its manifest."""

    scratch: Scratch
    seconds: float
    files: OpenFiles


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
def restored(ready: Ready, *, keep_owners: bool) -> Iterator[Restored]:
    """Fetch the backup if it is elsewhere, check its bytes, restore it into a scratch database, and compare it.

    The database is dropped at the end, unless it was kept. Raises StepFailedError for a backup that is not whole.
    """
    run, manifest = current_run(), ready.manifest
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
        scratch = stack.enter_context(closing(Scratch(run.settings.odoo_url, run_id=run.id, locale=manifest.locale)))
        yield _restored_into(scratch, ready, files, keep_owners=keep_owners)


def _restored_into(scratch: Scratch, ready: Ready, files: OpenFiles, *, keep_owners: bool) -> Restored:
    # dropped when the attempt ends
    action("scratch database", scratch.make, about=f"create {scratch.name}, empty", must_run_again=True)
    started = time.monotonic()
    with ready.access.environment() as access:
        env = access | {"PG_RESTORE": str(ready.access.programs.pg_restore), "DUMP": files.paths[ready.manifest.file]}
        env |= {"SCRATCH": scratch.name, "JOBS": str(min(4, os.cpu_count() or 1))}
        env |= {"OWNERS": "" if keep_owners else "--no-owner --no-privileges"}
        step("restore", RESTORE, timeout=RESTORE_SECONDS, env=env)
    seconds = round(time.monotonic() - started, 3)
    action("compare", lambda: _compare(ready.manifest, scratch.name), about=_compared(ready.manifest))
    return Restored(scratch=scratch, seconds=seconds, files=files)


def drill(ready: Ready) -> dict[str, Any]:
    """Restore the backup, compare it and drop it again, as steps of the current runbook; returns what was proven."""
    with restored(ready, keep_owners=False) as done:
        action("drop", done.scratch.drop, about=f"drop {done.scratch.name}")
    return proof(ready.manifest, seconds=done.seconds) | {"signature": ready.backup.signature}


def proof(manifest: Manifest, *, seconds: float) -> dict[str, Any]:
    """What was proven, for the result of a run. `tables_compared` is None where the manifest knows no contents."""
    contents = manifest.contents
    return {
        "backup": manifest.file,
        "created_at": manifest.created_at.isoformat(),
        "tables_compared": len(contents.tables) if contents else None,
        "rows_compared": contents.rows if contents else None,
        "restore_seconds": seconds,
    }


def _drop_leftovers() -> None:
    run = current_run()
    if dropped := drop_leftovers(run.settings.odoo_url):
        run.event("dropped the scratch databases of killed runs", level="warning", databases=dropped)


def _compared(manifest: Manifest) -> str:
    if manifest.contents is None:
        return "count the tables: the manifest knows no more"
    return "count and hash the rows of all tables, and compare them with the manifest"


def _compare(manifest: Manifest, database: str) -> None:
    with connect(current_run().settings.odoo_url, database=database) as db:
        try:
            pin_settings(db, statement_seconds=COMPARE_SECONDS)
            wrong = differences(manifest.contents, db) if manifest.contents else _count(manifest, db)
        except psycopg.Error as error:
            raise StepFailedError(f"cannot count and hash the restored rows: {str(error).strip()}") from error
    if wrong:
        raise StepFailedError(f"the restored database is not what was dumped: {shown(wrong)}")


def _count(manifest: Manifest, db: Connection) -> list[str]:
    row = db.execute(
        "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
    ).fetchone()
    tables = int(str(row[0])) if row else 0
    return [f"it has {tables} tables instead of {manifest.tables}"] if tables < manifest.tables else []
