"""The runbook `odoo_db_backup`: one database into one verified file."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from blocks.target_store import TargetError
from flows.backup.database import Database
from flows.backup.dump import DEADLINE_SECONDS
from flows.backup.folder import Folder, backup_folder
from flows.backup.keyring import room_keyring
from flows.backup.making import check_backup, make_backup
from flows.backup.parameters import BackupFolder, ExistingDatabase, OptionalTarget, RetentionDays
from flows.backup.repository import Backup
from flows.backup.told import backup_facts
from flows.engine.active_run import current_run
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.offsite.target import PRUNE_SECONDS, UPLOAD_SECONDS, find_target
from flows.restore.fetch import DOWNLOAD_SECONDS
from flows.restore.ready import check_restorable
from flows.restore.restore import DEADLINE_SECONDS as DRILL_SECONDS
from flows.restore.restore import drill
from flows.restore.sandbox import CannotDrillHereError
from opsdb.errors import StepFailedError

MARGIN_SECONDS = 120  # preflight, publish and prune, and what lies between the steps
LONGEST_SECONDS = (
    DEADLINE_SECONDS
    + DRILL_SECONDS
    - DOWNLOAD_SECONDS  # its drill finds the backup in the folder
    + 2 * UPLOAD_SECONDS
    + PRUNE_SECONDS
    + MARGIN_SECONDS
)


@runbook(
    deadline_seconds=LONGEST_SECONDS,
    max_attempts=2,
    exclusive="odoo_db",
    explain=backup_facts,
    subject="${params.odoo_db} · backup",
)
def odoo_db_backup(
    odoo_db: ExistingDatabase,
    retention_days: RetentionDays = 30,
    backup_dir: BackupFolder = "",
    restore_drill: bool = False,
    target: OptionalTarget = "",
) -> dict[str, Any]:
    """Back up one Odoo database, verify the backup, and delete backups of that database that are too old.

    **When to use it:** before an upgrade or any other change by hand. The schedule of nightly_backup does the rest.

    **What it changes:** nothing in the database, which people can keep using. It writes the dump, the server's roles, a
    manifest of rows and sums and, where OPS_FILESTORE_DIR is set, Odoo's filestore. A backup counts only when it was
    read back.

    **What it needs:** PostgreSQL's programs, a role that may read all rows, and room on the disk. All that is checked
    before anything is written.

    ```
    ops run odoo_db_backup -p odoo_db=odoo_prod --wait
    ```

    Args:
        odoo_db: Database to back up.
        retention_days: Days after which earlier backups of this database are deleted. The three newest good ones stay.
        backup_dir: Absolute path of the folder for the backup. Empty for the room's own.
        restore_drill: Restore the backup into a scratch database and compare it, before old backups are deleted.
        target: Backup Target block to which the backup is copied. Empty for no copy.
    """
    started = time.monotonic()
    run = current_run()
    database = Database(odoo_db, run.settings.odoo_url)
    folder, keyring = backup_folder(backup_dir), room_keyring(run.settings)
    source = action(
        "preflight",
        lambda: check_backup(database, folder, keyring),
        about=f"check programs, database {odoo_db}, its rows' visibility, and room in {folder.path}",
        preflight=True,
    )
    place = find_target(target, folder) if target else None
    backup = make_backup(source, folder, keyring)
    result = _result(backup)
    if restore_drill:
        result["drill"] = _drill(backup, folder)
    result["pruned"] = action(
        "prune",
        lambda: _prune(backup, retention_days),
        about=f"delete backups of {odoo_db} in {folder.path} older than {retention_days} days, "
        "but the three newest good",
    )
    if place:  # after the clean-up here, which a target that is away must not stop
        result["target"] = place.upload(backup, folder)
        result["target"]["pruned"] = place.prune(backup.name, folder, retention_days=retention_days)
        result["target"]["caught_up"] = place.catch_up(backup.name, folder, retention_days=retention_days)
    return result | {"duration_seconds": round(time.monotonic() - started, 3)}


def _drill(backup: Backup, folder: Folder) -> dict[str, Any]:
    """What was proven. A host that cannot try the backup says nothing about it."""
    try:
        ready = action(
            "restore preflight",
            lambda: replace(check_restorable(backup, folder, drill=True), needed=backup.name.companions),
            about=f"check programs and disk for the restore of {backup.name.dump}",
            preflight=True,
        )
        return drill(ready)
    except CannotDrillHereError as error:
        current_run().event(f"{backup.name.dump} was not drilled: {error}", level="warning")
        return {"not_drilled": str(error)}


def _prune(backup: Backup, retention_days: int) -> list[str]:
    try:
        return backup.repository.prune(backup.name, retention_days=retention_days)
    except TargetError as error:
        raise StepFailedError(
            f"the new backup {backup.name.dump} is good, but an older one could not be deleted: {error.found}"
        ) from error


def _result(backup: Backup) -> dict[str, Any]:
    manifest = backup.manifest
    if manifest is None:
        raise StepFailedError(f"{backup.url} has no manifest")
    return {
        "file": backup.url,
        "manifest": backup.repository.url(backup.name.manifest),
        "created_at": manifest.created_at.isoformat(),
        "size_bytes": manifest.size_bytes,
        "all_files_bytes": sum(one.size_bytes for one in manifest.files),
        "sha256": manifest.sha256,
        "tables": manifest.tables,
        "server_version": manifest.server_version,
        "pg_dump_version": manifest.pg_dump_version,
        "rows": manifest.contents.rows if manifest.contents else None,
        "other_files": [one.file for one in manifest.companions],
    }
