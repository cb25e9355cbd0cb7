"""A backup turned into a database again, and compared with what its manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from blocks.fields import BlockName
from flows.backup.contents import check_server, differences, pin_settings, shown
from flows.backup.folder import Folder, OpenFiles, check_space
from flows.backup.loading import prove_loading
from flows.backup.manifest import Manifest
from flows.backup.names import parse_name
from flows.backup.postgres import Connection, access_of, connect
from flows.backup.programs import Programs, find_programs
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.engine.step import action, step
from flows.offsite.target import Target, load_target
from flows.restore.archive import read_archive
from flows.restore.fetch import DOWNLOAD_SECONDS, Fetched, find_at_target
from flows.restore.load import RESTORE_SECONDS, analyze, load_dump
from flows.restore.prepare import Loaded, Prepared, check_contents, check_template, hand_over, known_roles, prepare
from flows.restore.sandbox import Sandbox, server_programs
from flows.restore.scratch import Scratch, drop_leftovers
from flows.restore.server import check_free, check_may_create
from opsdb.errors import PreflightError, StepFailedError

CHECKSUM_SECONDS = 600
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


@dataclass(frozen=True, slots=True)
class Ready:
    """What a restore needs, found and checked."""

    backup: Backup
    manifest: Manifest
    programs: Programs
    folder: Folder
    target: Target | None
    """Where the backup is, when the folder has not got it."""
    server: Path | None
    """The folder with the programs of a server of its own; None where it is restored on the Odoo databases' server."""
    template: str | None = None
    """A database that a superuser has prepared, to begin with."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup in a database that was compared with its manifest."""

    scratch: Scratch
    seconds: float
    files: OpenFiles
    loaded: Loaded


def find_backup(folder: Folder, database: str, file: str | None, target: Target | None) -> Backup:
    """The named backup of the database, or its newest verified one: in the folder, and else at the target.

    Raises PreflightError.
    """
    backups = folder.backups(database)
    name = parse_name(file) if file else None
    if name is not None and name.database != database:
        raise PreflightError(f"{file} is a backup of {name.database} and not of {database}")
    there = [one for one in backups if one.verified] if file is None else [one for one in backups if one.name == name]
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


def look_up(
    folder: Folder,
    database: str,
    file: str | None,
    target: BlockName | None,
    *,
    drill: bool,
    template: str | None = None,
) -> Ready:
    """Find the backup, and check all that its restore needs. Changes nothing. Raises PreflightError."""
    place = load_target(target) if target else None
    backup = find_backup(folder, database, file, place)
    return check_restorable(
        backup, folder, None if backup.repository is folder else place, drill=drill, template=template
    )


def check_restorable(
    backup: Backup, folder: Folder, target: Target | None = None, *, drill: bool, template: str | None = None
) -> Ready:
    """Check programs, role and disk for the restore of a backup. Changes nothing. Raises PreflightError.

    A drill takes place on a server of its own, unless OPS_DRILL_ON_SERVER is set.
    """
    run, manifest = current_run(), backup.manifest
    if missing := missing_programs(*PROGRAMS["odoo_restore_drill"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Install coreutils")
    if manifest is None:
        raise PreflightError(f"{backup.url} has no manifest that is as it was written: nothing tells what it held")
    # a dump is compressed: four times its size where the manifest does not know better
    needed = manifest.database_bytes or 4 * manifest.size_bytes
    if drill and not run.settings.drill_on_server:
        programs = find_programs(
            run.settings.pg_bin, server_version=manifest.server_version, dumped_by=manifest.pg_dump_version
        )
        home = next(one for one in (run.settings.home, *run.settings.home.parents) if one.is_dir())
        check_space(home, {"the restored database": needed})
        return Ready(backup, manifest, programs, folder, target, server=server_programs(programs))
    with connect(run.settings.odoo_url) as server:
        access = access_of(server, run.settings.pg_bin, dumped_by=manifest.pg_dump_version)
        check_server(server)
        prove_loading(access)
        check_may_create(server)
        if unknown := check_free(server, needed_bytes=needed):
            run.event(f"free space of the server was not checked: {unknown}", level="warning")
        ready = Ready(backup, manifest, access.programs, folder, target, server=None, template=template)
        if template:
            check_template(server, template, manifest)
        if target is None:  # else its contents are known when it is fetched
            with (folder.path / manifest.file).open("rb") as dump:
                check_contents(server, read_archive(dump), template=template)
    return ready


@contextmanager
def restored(ready: Ready) -> Iterator[Restored]:
    """Fetch the backup if it is elsewhere, check its bytes, restore it into a scratch database, and compare it.

    The database is dropped at the end, unless it was kept. Raises StepFailedError for a backup that is not whole.
    """
    run, manifest = current_run(), ready.manifest
    if ready.server is None:
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
        url = run.settings.odoo_url
        walls: tuple[str, ...] = ("a login without rights",)
        if ready.server is not None:
            sandbox = stack.enter_context(Sandbox(run.settings, ready.server))
            action(
                "sandbox",
                lambda: sandbox.start(roles=known_roles(manifest, files)),
                about=f"start a PostgreSQL for this drill alone in {run.settings.sandboxes}",
                must_run_again=True,
            )
            url, walls = sandbox.url, sandbox.walls.names if sandbox.walls else ()
        scratch = Scratch(url, run_id=run.id, locale=manifest.locale, template=ready.template)
        stack.enter_context(closing(scratch))
        yield _restored_into(scratch, ready, files, walls)


def _restored_into(scratch: Scratch, ready: Ready, files: OpenFiles, walls: tuple[str, ...]) -> Restored:
    dump = files.paths[ready.manifest.file]
    # dropped when the attempt ends
    made = action(
        "scratch database",
        lambda: prepare(scratch, dump, programs=ready.programs, thrown_away=ready.server is not None),
        about=f"create {scratch.name} with the extensions of the dump, and a login without rights that loads it",
        must_run_again=True,
    )
    prepared = made or Prepared.unknown(ready.programs)
    with closing(prepared):
        seconds = load_dump(prepared.access, dump, database=scratch.name, options=prepared.options)
    action("compare", lambda: _compare(ready.manifest, scratch), about=_compared(ready.manifest))
    if ready.server is None:
        action("analyze", lambda: _analyze(scratch), about="collect the planner's statistics of all tables")
    changed = action(
        "owners",
        lambda: hand_over(scratch, prepared.archive, thrown_away=ready.server is not None),
        about="give owners and privileges as the dump names them, where the room may",
    )
    loaded = Loaded(prepared.access.server_version, walls if scratch.login else (), prepared.left_out, changed or [])
    return Restored(scratch=scratch, seconds=seconds, files=files, loaded=loaded)


def drill(ready: Ready) -> dict[str, Any]:
    """Restore the backup, compare it and drop it again, as steps of the current runbook; returns what was proven."""
    with restored(ready) as done:
        action("drop", done.scratch.drop, about=f"drop {done.scratch.name}")
    return proof(ready.manifest, done)


def proof(manifest: Manifest, done: Restored) -> dict[str, Any]:
    """What was proven, for the result of a run. `tables_compared` is None where the manifest knows no contents."""
    contents = manifest.contents
    return {
        "backup": manifest.file,
        "created_at": manifest.created_at.isoformat(),
        "tables_compared": len(contents.tables) if contents else None,
        "rows_compared": contents.rows if contents else None,
        "restore_seconds": done.seconds,
        "proven_on": done.loaded.server_version,
        "walls": list(done.loaded.walls),
        "left_out": list(done.loaded.left_out),
        "other_owners": list(done.loaded.other_owners),
    }


def _drop_leftovers() -> None:
    run = current_run()
    if dropped := drop_leftovers(run.settings.odoo_url):
        run.event("dropped the scratch databases of killed runs", level="warning", databases=dropped)


def _compared(manifest: Manifest) -> str:
    if manifest.contents is None:
        return f"count the tables: a manifest of format {manifest.format} knows no more"
    return "count and hash the rows of all tables, and compare them with the manifest"


def _analyze(scratch: Scratch) -> None:
    with scratch.connect_to_load() as db:  # as the owner of all tables, whose indexes execute code
        analyze(db)


def _compare(manifest: Manifest, scratch: Scratch) -> None:
    with scratch.connect_to_load() as db:  # a row's text may come from code of the dump
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
