"""The runbook `odoo_restore_drill`: proof that a backup can be restored, and how long that takes."""

from __future__ import annotations

import time
from typing import Any

from blocks.fields import BlockName
from flows.backup.folder import Folder, backup_folder
from flows.backup.parameters import BackupFile, BackupFolder, OdooDatabase
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.restore.ready import Ready, look_up, warn_of_lost
from flows.restore.restore import DEADLINE_SECONDS, drill


@runbook(deadline_seconds=DEADLINE_SECONDS, max_attempts=2, subject="${params.odoo_db} · restore drill")
def odoo_restore_drill(
    odoo_db: OdooDatabase,
    backup: BackupFile | None = None,
    backup_dir: BackupFolder | None = None,
    target: BlockName | None = None,
) -> dict[str, Any]:
    """Restore a backup into a PostgreSQL of its own, compare it with what was dumped, and throw all of that away.

    What a dump holds is code, so the databases' own server takes no part, unless OPS_DRILL_ON_SERVER is set.

    Args:
        odoo_db: Database whose backup is tried.
        backup: File name of the backup, as `ops backups` shows it. Left empty: the newest good one, or else the
            newest whose dump is whole.
        backup_dir: Absolute path of the folder with the backups, without `..`. Left empty: the room's own.
        target: Name of a Backup Target block, where a backup is looked for that the folder has not got.
    """
    started = time.monotonic()
    folder = backup_folder(backup_dir)
    ready = action(
        "restore preflight",
        lambda: _look_up(folder, odoo_db, backup, target),
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
