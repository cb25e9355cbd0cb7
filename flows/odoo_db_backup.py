"""The runbook `odoo_db_backup`: one database into one verified file."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from blocks.fields import BlockName
from flows.backup.companions import (
    FILESTORE_SECONDS,
    GLOBALS_SECONDS,
    PLANNED,
    archive_filestore,
    dump_globals,
    written_in,
)
from flows.backup.manifest import Companion, Contents, Manifest
from flows.backup.outcome import prune_folder, record_files
from flows.backup.parameters import BackupFolder, OdooDatabase, RetentionDays
from flows.backup.postgres import connect, passfile
from flows.backup.readiness import foresee, prepare
from flows.backup.snapshot import Snapshot
from flows.engine.active_run import current_run
from flows.engine.runbook import runbook
from flows.engine.step import action, step
from flows.offsite.steps import PRUNE_SECONDS, UPLOAD_SECONDS, catch_up, look, prune_copies, upload
from flows.restore.fetch import DOWNLOAD_SECONDS
from flows.restore.restore import DEADLINE_SECONDS as DRILL_SECONDS
from flows.restore.restore import drill
from opsdb.errors import StepFailedError

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


@runbook(
    deadline_seconds=DUMP_SECONDS
    + FINGERPRINT_SECONDS
    + GLOBALS_SECONDS
    + FILESTORE_SECONDS
    + VERIFY_SECONDS
    + DRILL_SECONDS
    - DOWNLOAD_SECONDS  # its drill finds the backup in the folder
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
            lambda: prepare(odoo_db, folder, stack),
            about=f"check programs, database {odoo_db}, its rows' visibility, and room in {folder}",
            preflight=True,
            planned=lambda: foresee(odoo_db, folder),
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


def _found(pattern: str, output: str) -> str:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise StepFailedError(f"the step's output lacks {pattern}")
    return match[1]
