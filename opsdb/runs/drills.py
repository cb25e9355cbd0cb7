"""Which backups were restored to prove them, as the record of runs says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

_DRILLS = """
SELECT DISTINCT ON (backup) backup, id, finished_at, restore_seconds FROM (
    SELECT result ->> 'backup' AS backup, id, finished_at, result -> 'restore_seconds' AS restore_seconds
    FROM ops.runs WHERE kind IN ('odoo_restore_drill', 'odoo_db_restore') AND status = 'succeeded'
    UNION ALL
    SELECT result -> 'drill' ->> 'backup', id, finished_at, result -> 'drill' -> 'restore_seconds'
    FROM ops.runs WHERE kind = 'odoo_db_backup' AND status = 'succeeded' AND result ? 'drill'
) drill
WHERE backup IS NOT NULL AND finished_at IS NOT NULL
ORDER BY backup, finished_at DESC
"""


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A restore of a backup that was compared and found good. `seconds` is how long pg_restore took."""

    run_id: UUID
    at: datetime
    seconds: float | None


def last_drills(db: Connection) -> dict[str, Drill]:
    """The last good restore of each backup, by the dump's file name."""
    return {
        backup: Drill(run_id=run_id, at=at, seconds=float(seconds) if isinstance(seconds, int | float) else None)
        for backup, run_id, at, seconds in db.execute(text(_DRILLS))
    }
