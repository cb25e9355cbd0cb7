"""The runbook `odoo_db_restore`: a backup into a new database, never over one that is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from blocks.fields import BlockName
from flows.backup.folder import Folder, backup_folder
from flows.backup.keyring import Signature
from flows.backup.names import parse_name
from flows.backup.parameters import BackupFile, BackupFolder, OdooDatabase
from flows.backup.postgres import connect
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.restore.filestore import FILESTORE_SECONDS, Unpacked, check_new_folder, unpacked
from flows.restore.restore import DEADLINE_SECONDS, Ready, look_up, proof, restored
from flows.restore.scratch import Scratch
from opsdb.errors import PreflightError
from opsdb.trust import SAFE_FOLDER, who_else_may_write


@runbook(deadline_seconds=DEADLINE_SECONDS + FILESTORE_SECONDS, exclusive="odoo_db")
def odoo_db_restore(  # noqa: PLR0917 - they are passed by name
    odoo_db: OdooDatabase,
    backup: BackupFile,
    backup_dir: BackupFolder | None = None,
    filestore_dir: BackupFolder | None = None,
    target: BlockName | None = None,
    unsigned: bool = False,
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
        unsigned: Whether to restore a backup that this room did not sign, nor a room whose key was imported. Whoever
            made it can run commands in the restored database.
    """
    started = time.monotonic()
    folder = backup_folder(backup_dir)
    attachments = Path(filestore_dir) if filestore_dir else None
    ready = action(
        "preflight",
        lambda: _look_up(folder, backup, odoo_db, attachments, target, unsigned=unsigned),
        about=f"check that there is no database {odoo_db}; find {backup} in {folder.path}; "
        "check programs, role and disk",
        preflight=True,
    )
    with (
        restored(ready, keep_owners=ready.access.superuser) as done,
        unpacked(done.files, ready.backup.name, attachments) as files,
    ):
        action(
            "publish",
            lambda: _publish(done.scratch, odoo_db, files),
            about=f"rename {done.scratch.name} to {odoo_db}",
        )
    return proof(ready.manifest, seconds=done.seconds) | {
        "signature": ready.backup.signature,
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


def _look_up(
    folder: Folder, file: str, database: str, attachments: Path | None, target: str | None, *, unsigned: bool
) -> Ready:
    with connect(current_run().settings.odoo_url) as server:
        if server.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (database,)).fetchone():
            raise PreflightError(f"there is a database {database} already, and it is not touched: choose a new name")
    name = parse_name(file)
    if name is None:
        raise PreflightError(f"{file} is no name of a backup: `ops backups` lists them")
    ready = look_up(folder, name.database, file, target)
    if not unsigned and (refusal := _refusal(ready.backup) or _weakness(ready)):
        raise PreflightError(refusal)
    if attachments is not None:
        check_new_folder(ready.manifest, attachments)
    return ready


def _refusal(backup: Backup) -> str | None:
    """Why nothing vouches for the backup."""
    if backup.signed:
        return None
    if backup.signature is Signature.UNKNOWN_KEY:
        return (
            f"{backup.name.dump} was signed by another room. Hint: import that room's key with "
            "`ops backups key import`, or restore it with unsigned=true if you trust who made it"
        )
    return (
        f"{backup.name.dump} is unsigned: anybody may have made it. Hint: `ops backups sign` signs the backups in the "
        "folder after a check of their sums; or restore it with unsigned=true if you trust who made it"
    )


def _weakness(ready: Ready) -> str | None:
    """Who could give a signed backup other bytes after its sums were compared."""
    here = [] if ready.target else [one.file for one in ready.manifest.files]
    for path in (ready.folder.path, *(ready.folder.path / file for file in here)):
        if found := who_else_may_write(path):
            return (
                f"{found}: the files of {ready.backup.name.dump} could be replaced while they are restored. "
                f"Hint: {SAFE_FOLDER}; or restore it with unsigned=true"
            )
    return None
