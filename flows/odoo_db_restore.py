"""The runbook `odoo_db_restore`: a backup into a new database, never over one that is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from blocks.fields import BlockName
from flows.backup.folder import Folder, backup_folder
from flows.backup.names import parse_name
from flows.backup.parameters import BackupFile, BackupFolder, OdooDatabase
from flows.backup.postgres import connect
from flows.engine.active_run import current_run
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.restore.filestore import FILESTORE_SECONDS, Unpacked, check_new_folder, unpacked
from flows.restore.load import ANALYZE_SECONDS, analyze
from flows.restore.restore import DEADLINE_SECONDS, Ready, look_up, proof, restored
from flows.restore.scratch import Scratch
from opsdb.errors import PreflightError


@runbook(deadline_seconds=DEADLINE_SECONDS + ANALYZE_SECONDS + FILESTORE_SECONDS, exclusive="odoo_db")
def odoo_db_restore(
    odoo_db: OdooDatabase,
    backup: BackupFile,
    backup_dir: BackupFolder | None = None,
    filestore_dir: BackupFolder | None = None,
    target: BlockName | None = None,
) -> dict[str, Any]:
    """Restore a backup into a new database, compare it with what was dumped, and only then give it its name.

    A database that is there already is never touched. Owners and privileges are restored where the room's role is a
    superuser, and else everything belongs to that role.

    Args:
        odoo_db: Name of the new database. There must be none of that name.
        backup: File name of the backup, as `ops backups` shows it.
        backup_dir: Absolute path of the folder with the backups, without `..`. Left empty: the room's own.
        filestore_dir: Absolute path of a new folder for the backup's filestore. Left empty: it is not unpacked.
        target: Name of a Backup Target block, where a backup is looked for that the folder has not got.
    """
    started = time.monotonic()
    folder = backup_folder(backup_dir)
    attachments = Path(filestore_dir) if filestore_dir else None
    ready = action(
        "preflight",
        lambda: _look_up(folder, backup, odoo_db, attachments, target),
        about=f"check that there is no database {odoo_db}; find {backup} in {folder.path}; "
        "check programs, role and disk",
        preflight=True,
    )
    with (
        restored(ready, keep_owners=ready.access.superuser) as done,
        unpacked(done.files, ready.backup.name, attachments) as files,
    ):
        action(
            "analyze",
            lambda: analyze(current_run().settings.odoo_url, done.scratch.name),
            about="collect the planner's statistics of all tables",
        )
        action(
            "publish",
            lambda: _publish(done.scratch, odoo_db, files),
            about=f"rename {done.scratch.name} to {odoo_db}",
        )
    return proof(ready.manifest, seconds=done.seconds) | {
        "database": odoo_db,
        "filestore": str(attachments) if attachments else None,
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _publish(scratch: Scratch, database: str, files: Unpacked) -> None:
    files.keep()
    try:
        scratch.keep_as(database)
    except BaseException:
        files.take_back()
        raise


def _look_up(folder: Folder, file: str, database: str, attachments: Path | None, target: str | None) -> Ready:
    with connect(current_run().settings.odoo_url) as server:
        if server.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (database,)).fetchone():
            raise PreflightError(f"there is a database {database} already, and it is not touched: choose a new name")
    name = parse_name(file)
    if name is None:
        raise PreflightError(f"{file} is no name of a backup: `ops backups` lists them")
    ready = look_up(folder, name.database, file, target)
    if attachments is not None:
        check_new_folder(ready.manifest, attachments)
    return ready
