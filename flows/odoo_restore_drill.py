"""The runbook `odoo_restore_drill`: proof that a backup can be restored, and how long that takes."""

from __future__ import annotations

import time
from typing import Any

from flows.backup.folder import Folder, backup_folder
from flows.backup.parameters import BackupFolder, ExistingDatabase, OptionalFile, OptionalTarget
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.restore.ready import Ready, look_up, warn_of_lost
from flows.restore.restore import DEADLINE_SECONDS, drill
from flows.restore.told import drill_facts


@runbook(
    deadline_seconds=DEADLINE_SECONDS,
    max_attempts=2,
    subject="${params.odoo_db} · restore drill",
    explain=drill_facts,
)
def odoo_restore_drill(
    odoo_db: ExistingDatabase,
    backup: OptionalFile = "",
    backup_dir: BackupFolder = "",
    target: OptionalTarget = "",
) -> dict[str, Any]:
    """Prove that a backup can be restored: restore it into a PostgreSQL of its own, compare it, throw it away.

    **When to use it:** to know how long a restore takes, and after a change of servers or versions. The schedule
    weekly-restore-drill does it each week.

    **What it changes:** nothing that lasts. What a dump holds is code, so the databases' own server takes no part,
    unless OPS_DRILL_ON_SERVER is set.

    **What it needs:** a backup, PostgreSQL's programs, and room on the disk for the restored database.

    ```
    ops run odoo_restore_drill -p odoo_db=odoo_prod --wait
    ```

    Args:
        odoo_db: Database whose backup is tried.
        backup: File name of the backup. Empty for the newest good one, or else the newest whose dump is whole.
        backup_dir: Absolute path of the folder with the backups. Empty for the room's own.
        target: Backup Target block to fetch the backup from when the folder does not have it. Empty for none.
    """
    started = time.monotonic()
    folder = backup_folder(backup_dir)
    ready = action(
        "restore preflight",
        lambda: _look_up(folder, odoo_db, backup or None, target or None),
        about=f"find {backup or 'the best backup'} of {odoo_db} in {folder.path}; check programs and disk",
        preflight=True,
    )
    return drill(ready) | {
        "backup_dir": str(folder.path),
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def _look_up(folder: Folder, database: str, file: str | None, target: str | None) -> Ready:
    ready = look_up(folder, database, file, target, drill=True)
    warn_of_lost(ready)
    return ready
