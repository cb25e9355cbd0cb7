"""A backup turned into a database again, and compared with what its manifest says."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from flows.backup.attachments import archived, differing_attachments, read_names
from flows.backup.contents import summary
from flows.backup.folder import OpenFiles
from flows.backup.inventory import KINDS, ROLES
from flows.backup.manifest import Manifest
from flows.backup.pinned import pin_settings
from flows.backup.postgres import Connection
from flows.engine.active_run import current_run
from flows.engine.progress import read
from flows.engine.step import action, step
from flows.restore.change import Change, changed
from flows.restore.comparison import NOT_MADE, check_same, compared, differences_from, same_major
from flows.restore.fetch import DOWNLOAD_SECONDS, Fetched
from flows.restore.handover import Handed, hand_over
from flows.restore.load import RESTORE_SECONDS, analyze, load_dump
from flows.restore.prepare import Prepared, known_roles, prepare
from flows.restore.ready import Ready, goes_on_without
from flows.restore.sandbox import Sandbox
from flows.restore.scratch import Scratch, drop_leftovers
from opsdb.database import first_line
from opsdb.errors import StepFailedError

CHECKSUM_SECONDS = 600
COMPARE_SECONDS = 900
ATTACHMENTS_SECONDS = 1800
DEADLINE_SECONDS = DOWNLOAD_SECONDS + CHECKSUM_SECONDS + RESTORE_SECONDS + COMPARE_SECONDS + ATTACHMENTS_SECONDS + 120

# The sums come from the manifest, which has one of its own.
CHECKSUM = """\
while read -r sum path name; do
  sha256sum --check --strict --status <<<"$sum  $path" && continue
  if [[ " $NEEDED " = *" $name "* ]]; then
    echo "the backup is damaged: $name is not what was written when it was made" >&2
    exit 65
  fi
  echo "damaged: $name"
done <<<"$SUMS"
"""
_DAMAGED = re.compile(r"^damaged: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup in a database that was compared with its manifest."""

    scratch: Scratch
    seconds: float
    files: OpenFiles
    server_version: str
    walls: tuple[str, ...]
    """What stood between the dump and this host."""
    left_out: tuple[str, ...]
    """What only a superuser may make, and was not made."""
    handed: Handed
    missing: tuple[str, ...]
    """The files of the backup that are lost or damaged: it was restored without them."""
    named: set[str]
    """The files that rows of the backup name."""


@contextmanager
def restored(ready: Ready, change: Change | None = None) -> Iterator[Restored]:
    """Fetch the backup if it is elsewhere, check its bytes, restore it into a scratch database, and compare it.

    `change` is made after that, and before anything in the database gets its owner. The database is dropped at the
    end, unless it was kept. Raises StepFailedError where the dump is not whole, or a file that is needed besides; any
    other that is damaged is an event.
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
        _check_sums(ready, files)
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
        # on a server of its own there are none
        tablespace = manifest.properties.tablespace if manifest.properties and ready.properties else None
        scratch = Scratch(url, run_id=run.id, locale=manifest.locale, template=ready.template, tablespace=tablespace)
        stack.enter_context(closing(scratch))
        yield _restored_into(scratch, ready, files, walls, change)


def _check_sums(ready: Ready, files: OpenFiles) -> None:
    """Compare the bytes of all files that are there with the manifest, and read those no more that are damaged."""
    manifest = ready.manifest
    sums = {one.file: one.sha256 for one in manifest.files}
    listed = "\n".join(f"{sums[file]} {path} {file}" for file, path in files.paths.items())
    env = {"SUMS": listed, "NEEDED": " ".join([manifest.file, *ready.needed])}
    # its command is the same for every backup: a kept one might verify another
    progress = read(*files.paths.values())
    output = step("checksum", CHECKSUM, timeout=CHECKSUM_SECONDS, env=env, must_run_again=True, progress=progress)
    damaged = _DAMAGED.findall(output.stdout or "")
    files.drop(damaged)
    for file in damaged:
        current_run().event(f"{file} is damaged: {goes_on_without(file, manifest)}", level="warning")


def _restored_into(
    scratch: Scratch, ready: Ready, files: OpenFiles, walls: tuple[str, ...], change: Change | None
) -> Restored:
    manifest, dump = ready.manifest, files.paths[ready.manifest.file]
    thrown_away = ready.server is not None
    # dropped when the attempt ends
    made = action(
        "scratch database",
        lambda: prepare(scratch, dump, manifest, programs=ready.programs, thrown_away=thrown_away),
        about=f"create {scratch.name} with the extensions of the dump, and a login without rights that loads it",
        must_run_again=True,
    )
    prepared = made or Prepared.unknown(ready.programs, manifest.server_version)
    with closing(prepared):
        seconds = load_dump(prepared.access, dump, database=scratch.name, options=prepared.options)
    action(
        "shut",
        scratch.shut,
        about=f"end all sessions in {scratch.name}, and let nobody in but the room and that login",
        must_run_again=True,
    )
    if not thrown_away:
        # as the owner of all tables, whose indexes execute code
        about = "collect the planner's statistics of all tables"
        action("analyze", lambda: analyze(scratch.connect_to_load), about=about)
    # last of all that executes code of the dump: what was compared is handed over
    named: set[str] = set()
    action("compare", lambda: _compare(manifest, scratch, named), about=_compared(manifest))
    archive = files.paths.get(manifest.filestore.file) if manifest.filestore else None
    if manifest.attachments is not None and archive is not None:
        action(
            "attachments",
            lambda: _compare_attachments(manifest, named, archive),
            about="read every file that ir_attachment names in the filestore's archive, and compare its SHA-1",
            must_run_again=True,
            progress=read(archive),
        )
    if change is not None:
        changed(change, scratch, manifest)
    handed = Handed()
    # what an unsigned archive says of owners and privileges is somebody's text, and is not executed
    if ready.roles is not None and ready.trusted:
        given = action(
            "owners",
            lambda: _hand_over(ready, scratch, prepared),
            about="give all objects their owners and privileges, and compare those",
            must_run_again=True,
        )
        handed = given or handed
    version = prepared.access.server_version
    missing = tuple(one.file for one in manifest.files if one.file not in files.paths)
    return Restored(
        scratch, seconds, files, version, walls if scratch.login else (), prepared.left_out, handed, missing, named
    )


def drill(ready: Ready) -> dict[str, Any]:
    """Restore the backup, compare it and drop it again, as steps of the current runbook; returns what was proven."""
    with restored(ready) as done:
        action("drop", done.scratch.drop, about=f"drop {done.scratch.name}")
    return proof(ready, done)


def proof(ready: Ready, done: Restored) -> dict[str, Any]:
    """What was proven, for the result of a run."""
    filestore = ready.manifest.filestore
    uncompared = {"attachments_compared": None} if filestore and filestore.file in done.missing else {}
    return {
        "backup": ready.manifest.file,
        "signature": ready.backup.signature,
        "created_at": ready.manifest.created_at.isoformat(),
        **compared(ready.manifest, without=ROLES if done.handed.refused else ready.without),
        **uncompared,
        "missing_files": list(done.missing),
        "restore_seconds": done.seconds,
        "proven_on": done.server_version,
        "walls": list(done.walls),
        "left_out": list(done.left_out),
        "other_owners": list(done.handed.other_owners),
    }


def _names_in(scratch: Scratch) -> set[str]:
    """The files that the rows of a restored database name."""
    with scratch.connect() as db:
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


def _compare(manifest: Manifest, scratch: Scratch, named: set[str]) -> None:
    """Rows and definitions, over the login that loaded them: to read a definition again executes it.

    `named` gets the files that rows name.
    """
    with scratch.connect_to_load() as db:
        try:
            pin_settings(db, statement_seconds=COMPARE_SECONDS)
            wrong = (
                differences_from(manifest, db, without={*ROLES, *NOT_MADE})
                if manifest.contents
                else _count(manifest, db)
            )
        except psycopg.Error as error:
            raise StepFailedError(f"cannot compare the restored database: {first_line(error)}") from error
    check_same(wrong)
    if manifest.attachments is not None:
        named.update(_names_in(scratch))


def _hand_over(ready: Ready, scratch: Scratch, prepared: Prepared) -> Handed:
    """Owners and privileges; compared where all of them could be given: that reads the catalogs alone."""
    manifest, roles = ready.manifest, ready.roles or {}
    with scratch.connect() as db:
        pin_settings(db, statement_seconds=COMPARE_SECONDS)
        handed = hand_over(
            db,
            prepared.archive,
            manifest.inventory,
            roles=roles,
            loader=scratch.login.user if scratch.login else None,
            owner=ready.properties.owner if ready.properties else db.info.user,
            exact=ready.server is not None or (manifest.inventory is not None and same_major(manifest, db)),
        )
        if manifest.inventory is not None and not handed.refused:
            only_roles = manifest.model_copy(update={"contents": None, "extensions": None})
            check_same(differences_from(only_roles, db, roles=handed.roles, without=KINDS))
    if handed.other_owners:
        told = "these have other owners than in the dump, since code of other roles could have changed them meanwhile"
        current_run().event(told, level="warning", other_owners=list(handed.other_owners))
    return handed


def _compare_attachments(manifest: Manifest, named: set[str], archive: str) -> None:
    if manifest.attachments is None:
        return
    try:
        wrong = differing_attachments(manifest.attachments, named, archived(archive))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise StepFailedError(f"the archive of the filestore cannot be read: {error}") from error
    if wrong:
        raise StepFailedError(f"the filestore is not what the database needs: {summary(wrong)}")


def _count(manifest: Manifest, db: Connection) -> list[str]:
    row = db.execute(
        "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
    ).fetchone()
    tables = int(str(row[0])) if row else 0
    return [f"it has {tables} tables instead of {manifest.tables}"] if tables < manifest.tables else []
