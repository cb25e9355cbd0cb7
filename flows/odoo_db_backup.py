"""The runbook `odoo_db_backup`: one database into one verified file."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

from blocks.block_name import BlockName
from flows.active_run import current_run
from flows.backup_companions import (
    FILESTORE_SECONDS,
    GLOBALS_SECONDS,
    PLANNED,
    archive_filestore,
    check_filestore,
    dump_globals,
    role_passwords,
    written_in,
)
from flows.backup_draft import Draft, clear_leftovers, draft
from flows.backup_files import Backup, BackupName, Companion, Locale, Manifest, list_backups
from flows.backup_outcome import prune_folder, record_files
from flows.backup_parameters import BackupFolder, OdooDatabase, RetentionDays
from flows.backup_preflight import (
    check_readable,
    check_space,
    connect_to,
    database_bytes,
    estimate_bytes,
    locale_of,
    prepare_folder,
)
from flows.database_contents import Contents, check_server
from flows.off_site import PRUNE_SECONDS, UPLOAD_SECONDS, catch_up, look, prune_copies, upload
from flows.postgres_access import Database, Programs, connect, find_programs, missing_tools, passfile, program_env
from flows.programs import PROGRAMS
from flows.restoring import DEADLINE_SECONDS as DRILL_SECONDS
from flows.restoring import Ready as ReadyToRestore
from flows.restoring import drill
from flows.runbook import runbook
from flows.snapshot import Snapshot
from flows.step import action, step
from opsdb.errors import PreflightError, StepFailedError

DUMP_SECONDS = 600
FINGERPRINT_SECONDS = 600  # since the snapshot; what is left of it after the dump, but a minute at least
VERIFY_SECONDS = 600
MARGIN_SECONDS = 120  # preflight, publish and prune, and what lies between the steps

# $ODOO_DB is a name and never a connection string: its pattern has no `=` and no `:`.
# tee stops at the first write error, so that a full disk ends pg_dump at once.
DUMP = """\
"$PG_DUMP" --format=custom --no-password --lock-wait-timeout=120s --snapshot="$SNAPSHOT" \\
  --dbname="$ODOO_DB" \\
  | tee --output-error=exit -- "$PARTIAL" \\
  | sha256sum
sync -- "$PARTIAL"
stat --format='bytes: %s' -- "$PARTIAL"
"""

# A dump cut in half passes `pg_restore --list`: all of it is decompressed as well. The page cache is dropped first, so
# that the checksum is that of the disk.
VERIFY = """\
dd if="$PARTIAL" iflag=nocache count=0 status=none
echo "$SHA256  $PARTIAL" | sha256sum --check --strict --status || {
  echo "the file on disk is not what pg_dump wrote: its sha256 differs" >&2
  exit 65
}
contents=$("$PG_RESTORE" --list -- "$PARTIAL")
"$PG_RESTORE" --file=/dev/null -- "$PARTIAL"
if ! grep -q '^[0-9]' <<<"$contents"; then
  echo "the dump holds nothing at all: is $ODOO_DB the right database?" >&2
  exit 65
fi
echo "tables: $(grep -Ec '^[0-9]+; [0-9]+ [0-9]+ TABLE DATA ' <<<"$contents" || true)"
"""


@dataclass(frozen=True, slots=True)
class _Ready:
    draft: Draft
    programs: Programs
    filestore: Path | None
    server_version: str
    database_bytes: int
    locale: Locale
    role_passwords: str
    env: dict[str, str]
    password: str = field(repr=False)

    def drilled(self, manifest: Manifest) -> ReadyToRestore:
        """What the drill of a dry run starts from: the backup that was not made."""
        backup = Backup(
            folder=self.draft.dump.parent, name=self.draft.name, size_bytes=manifest.size_bytes, manifest=manifest
        )
        return ReadyToRestore(
            backup=backup,
            manifest=manifest,
            programs=self.programs,
            superuser=not self.role_passwords,
            env=self.env,
            password=self.password,
        )


@runbook(
    deadline_seconds=DUMP_SECONDS
    + FINGERPRINT_SECONDS
    + GLOBALS_SECONDS
    + FILESTORE_SECONDS
    + VERIFY_SECONDS
    + DRILL_SECONDS
    + 2 * UPLOAD_SECONDS
    + PRUNE_SECONDS
    + MARGIN_SECONDS,
    max_attempts=2,
    exclusive="odoo_db",
)
def odoo_db_backup(
    odoo_db: OdooDatabase,
    retention_days: RetentionDays = 30,
    backup_dir: BackupFolder | None = None,
    restore_drill: bool = False,
    target: BlockName | None = None,
) -> dict[str, Any]:
    """Dump one Odoo database, verify the dump, and delete the backups of that database that are too old.

    The dump is in pg_dump's custom format, which is compressed; restore it with `pg_restore`. Beside it lie the
    server's roles, Odoo's filestore where OPS_FILESTORE_DIR is set, and a manifest with the row count and a hash of
    each table, taken in the dump's own snapshot: by them a restore is compared.

    Args:
        odoo_db: Database to dump: letters, digits, `_`, `-` and `.`, at most 63. Not postgres, not a template.
        retention_days: Days after which earlier backups of this database are deleted; the three newest good ones stay.
        backup_dir: Absolute path of the folder for the dump, without `..`. Left empty: the room's own.
        restore_drill: Whether to restore the backup into a scratch database and compare it before old ones go.
        target: Name of a Backup Target block, to which the backup is copied. Left empty: it stays in its folder.
    """
    started = time.monotonic()
    run = current_run()
    folder = Path(backup_dir) if backup_dir else run.settings.backups
    with ExitStack() as stack:
        ready = action(
            "preflight",
            lambda: _prepare(odoo_db, folder, stack),
            about=f"check programs, database {odoo_db}, its rows' visibility, and room in {folder}",
            preflight=True,
            planned=lambda: _examine(odoo_db, lambda db: _planned_draft(db, odoo_db, folder)),
        )
        place = look(target, folder) if target else None
        names = {"ODOO_DB": odoo_db, "PARTIAL": str(ready.draft.partial)}
        with passfile(ready.password) as password_file:
            env = names | ready.env | password_file
            snapshot = Snapshot(
                lambda: connect(run.settings.odoo_url, database=odoo_db), statement_seconds=FINGERPRINT_SECONDS
            )
            stack.callback(snapshot.close)
            snapshot_id = action(
                "snapshot",
                snapshot.open,
                about="export a snapshot, and begin to count and hash the rows of all tables in it",
                planned=str,
                must_run_again=True,  # it ends with its connection
            )
            counting_until = time.monotonic() + FINGERPRINT_SECONDS
            pg_dump = {"PG_DUMP": str(ready.programs.pg_dump), "SNAPSHOT": snapshot_id}
            try:
                dumped = step("pg_dump", DUMP, timeout=DUMP_SECONDS, env=env | pg_dump, planned=PLANNED)
            except StepFailedError:
                snapshot.check()
                raise
            sha256, size_bytes = written_in(dumped.stdout)
            contents = action(
                "fingerprint",
                lambda: snapshot.contents(timeout=max(60.0, counting_until - time.monotonic())),
                about="wait until all rows are counted and hashed",
                planned=Contents.empty,
            )
            pg_dumpall = {"PG_DUMPALL": str(ready.programs.pg_dumpall), "ROLE_PASSWORDS": ready.role_passwords}
            companions: dict[str, Companion] = {"globals": dump_globals(ready.draft, env | pg_dumpall)}
        if ready.filestore:
            companions["filestore"] = archive_filestore(ready.draft, ready.filestore)
        env = names | {"SHA256": sha256, "PG_RESTORE": str(ready.programs.pg_restore)}
        verified = step("verify", VERIFY, timeout=VERIFY_SECONDS, env=env, planned="tables: 0")
        manifest = Manifest(
            database=odoo_db,
            file=ready.draft.name.dump,
            created_at=ready.draft.name.created_at,
            size_bytes=size_bytes,
            sha256=sha256,
            tables=int(_found(r"^tables: (\d+)$", verified.stdout)),
            server_version=ready.server_version,
            pg_dump_version=ready.programs.version,
            run_id=str(run.id),
            database_bytes=ready.database_bytes,
            locale=ready.locale,
            contents=contents,
            **companions,
        )
        action(
            "publish",
            lambda: ready.draft.publish(manifest),
            about=f"ln {ready.draft.partial} {ready.draft.dump}, after its manifest",
        )
    record_files(folder, ready.draft, manifest)
    proven = {"drill": drill(folder, odoo_db, manifest.file, planned=ready.drilled(manifest))} if restore_drill else {}
    pruned = action(
        "prune",
        lambda: prune_folder(folder, manifest, retention_days),
        about=f"delete backups of {odoo_db} in {folder} older than {retention_days} days, but the three newest good",
        planned=list,
    )
    # after the clean-up here, which a target that is away must not stop
    copied = {"target": upload(place, folder, manifest)} if place else {}
    if place:
        copied["target"]["pruned"] = prune_copies(place, manifest, retention_days)
        copied["target"]["caught_up"] = catch_up(place, folder, manifest, retention_days)
    return {
        "file": str(ready.draft.dump),
        "manifest": str(ready.draft.manifest),
        "created_at": manifest.created_at.isoformat(),
        "size_bytes": manifest.size_bytes,
        "sha256": sha256,
        "tables": manifest.tables,
        "server_version": manifest.server_version,
        "pg_dump_version": manifest.pg_dump_version,
        "rows": contents.rows,
        "other_files": [one.file for one in manifest.companions],
        "duration_seconds": round(time.monotonic() - started, 3),
        "pruned": pruned,
        **proven,
        **copied,
    }


def _prepare(database: str, folder: Path, stack: ExitStack) -> _Ready:
    """Check everything, then reserve the new file's name: the draft lives as long as `stack`."""

    def reserve(db: Database) -> Draft:
        prepare_folder(folder)
        if leftovers := clear_leftovers(folder, database):
            current_run().event("removed what killed backups left", level="warning", files=leftovers)
        check_space(folder, needed_bytes=estimate_bytes(db, list_backups(folder, database)))
        return stack.enter_context(draft(folder, database, clock=lambda: _server_clock(db)))

    return _examine(database, reserve)


def _planned_draft(db: Database, database: str, folder: Path) -> Draft:
    """Where the dump would be written, and whether there is room: changes nothing."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        raise PreflightError(f"cannot make the backup folder {folder}: {there} is not a folder")
    if there == folder:
        prepare_folder(folder)
    earlier = list_backups(folder, database) if there == folder else []
    check_space(there, needed_bytes=estimate_bytes(db, earlier))
    if not os.access(there, os.W_OK):
        raise PreflightError(f"cannot write to {there}")
    now = _server_clock(db).astimezone(UTC).replace(microsecond=0)
    return Draft(folder=folder, name=BackupName(database, now), handle=-1)


def _examine(database: str, reserve: Callable[[Database], Draft]) -> _Ready:
    """Check programs and database, and what the dump is written to last."""
    run = current_run()
    if missing := missing_tools(*PROGRAMS["odoo_db_backup"]):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Install coreutils, grep, gzip and tar")
    with connect_to(database, url=run.settings.odoo_url) as db:
        server_version = db.info.parameter_status("server_version") or str(db.info.server_version // 10000)
        programs = find_programs(run.settings.pg_bin, server_version=server_version)
        check_server(db)
        check_readable(db)
        filestore = check_filestore(run.settings.filestore_dir, database)
        return _Ready(
            draft=reserve(db),
            programs=programs,
            filestore=filestore,
            server_version=server_version,
            database_bytes=database_bytes(db),
            locale=locale_of(db),
            role_passwords=role_passwords(db),
            env=program_env(db),
            password=db.info.password,
        )


def _server_clock(db: Database) -> Any:
    """The database server's time: hosts that back up one database agree on the order of its backups."""
    row = db.execute("SELECT clock_timestamp()").fetchone()
    return row[0] if row else None


def _found(pattern: str, output: str) -> str:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise StepFailedError(f"the step's output lacks {pattern}")
    return match[1]
