"""How long an upgrade of a database may take when nobody says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import Connection, text

from flows.backup.database import Database
from flows.engine.active_run import current_run
from flows.engine.ops_database import in_ops
from flows.odoo.parameters import UPGRADE_MINUTES

LEAST_MINUTES = 15
MINUTES_PER_GB = 2
TIMES_THE_LONGEST = 3
_LAST = text("""
SELECT extract(epoch FROM s.finished_at - s.started_at)
FROM ops.run_steps s JOIN ops.runs r ON r.id = s.run_id
WHERE r.kind = 'odoo_module_upgrade' AND r.resource = :resource AND s.name = 'upgrade_modules'
      AND s.status = 'succeeded'
ORDER BY s.finished_at DESC LIMIT 5
""")


def usual_minutes(*, size_bytes: int, earlier_seconds: Sequence[float]) -> int:
    """The limit by the size of the database and by the last upgrades of it: three times the longest of those."""
    by_size = size_bytes / 1e9 * MINUTES_PER_GB
    by_time = max(earlier_seconds, default=0.0) / 60 * TIMES_THE_LONGEST
    return min(UPGRADE_MINUTES, math.ceil(max(LEAST_MINUTES, by_size, by_time)))


def find_minutes(database: str, *, url: str) -> int:
    """The same, of what the server and the record of the room say. Raises PreflightError."""
    run = current_run()
    with Database(database, url).reading() as db:
        row = db.execute("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())").fetchone()
    size = int(str(row[0])) if row else 0
    if not run.in_lane:
        return usual_minutes(size_bytes=size, earlier_seconds=[])

    def read_last(db: Connection) -> list[float]:
        return [float(seconds) for (seconds,) in db.execute(_LAST, {"resource": f"odoo_db:{database}"})]

    return usual_minutes(size_bytes=size, earlier_seconds=in_ops(run.settings, read_last))
