"""Which runs stay whatever their age: in the record what others build on, in Prefect what may still resume."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from opsdb.proven import GOOD_BACKUP, OTHER_BACKUP, SUCCEEDED

# each is a good backup, a restore that proves one, or what a rollback of an upgrade is made of
_BY_KIND = f"""
    {GOOD_BACKUP}
    OR kind IN ('odoo_restore_drill', 'odoo_db_restore', 'odoo_staging_copy') AND {SUCCEEDED}
    OR kind IN ('odoo_module_upgrade', 'odoo_upgrade_rollback')
"""

PRUNABLE = f"""
    finished_at < :cutoff AND NOT id = ANY(:kept) AND ({_BY_KIND}) IS NOT TRUE
"""
"""Of a run that is over, old, and that nothing builds on. `kept` is what `read_kept_runs` returns."""

# since when a database is tried, so that nights without a backup count
_LAST_TRIES = text(f"""
SELECT DISTINCT ON (params ->> 'odoo_db') id FROM ops.runs
WHERE {OTHER_BACKUP} AND finished_at < :cutoff
ORDER BY params ->> 'odoo_db', finished_at DESC
""")  # noqa: S608 - of texts of ours
# what `ops retry --from-failed` can resume from: nobody has done the same since
_UNFINISHED_WORK = text("""
WITH old AS (
    SELECT id, kind, coalesce(resource, params::text) AS same, created_at FROM ops.runs
    WHERE finished_at < :cutoff AND status <> 'succeeded'
      AND EXISTS (SELECT FROM ops.step_results WHERE run_id = runs.id)
), newest AS (
    SELECT kind, coalesce(resource, params::text) AS same, max(created_at) AS at FROM ops.runs
    WHERE started_at IS NOT NULL AND kind IN (SELECT kind FROM old) GROUP BY 1, 2
)
SELECT old.id FROM old LEFT JOIN newest USING (kind, same) WHERE newest.at IS NULL OR old.created_at >= newest.at
""")
# that a thing was ever done here, by hand or by a schedule: opsdb/runs/evidence.py
_LAST_SUCCESSES = text(f"""
WITH newest AS (
    SELECT kind, tick IS NOT NULL AS scheduled, max(finished_at) AS at FROM ops.runs WHERE {SUCCEEDED} GROUP BY 1, 2
)
SELECT runs.id FROM newest JOIN ops.runs ON runs.kind = newest.kind AND (runs.tick IS NOT NULL) = newest.scheduled
                                            AND runs.finished_at = newest.at
WHERE newest.at < :cutoff AND {SUCCEEDED}
""")  # noqa: S608 - of texts of ours
_ALERTED = text("SELECT run_id FROM ops.alert_episodes WHERE resolved_at IS NULL AND run_id IS NOT NULL")
_KEPT_IN_PREFECT_OF = text("""
SELECT id FROM ops.runs WHERE id = ANY(:ids) AND (finished_at < :cutoff AND NOT id = ANY(:kept)) IS NOT TRUE
""")


def read_kept_runs(db: Connection, *, cutoff: datetime) -> list[UUID]:
    """The runs that stay for what they alone know: one or two for each database or sort of work, and the alerted."""
    found = {run_id for query in (_LAST_TRIES, _LAST_SUCCESSES) for run_id in db.scalars(query, {"cutoff": cutoff})}
    return sorted(found.union(read_kept_in_prefect(db, cutoff=cutoff)))


def read_kept_in_prefect(db: Connection, *, cutoff: datetime) -> list[UUID]:
    """The runs that are over and stay in Prefect, too: those that can resume, and the alerted."""
    return sorted({*db.scalars(_UNFINISHED_WORK, {"cutoff": cutoff}), *db.scalars(_ALERTED)})


def kept_in_prefect_of(db: Connection, ids: Collection[UUID], *, cutoff: datetime, kept: Collection[UUID]) -> set[UUID]:
    """Those of the runs that are recorded, and stay in Prefect. `kept` is what `read_kept_in_prefect` returns.

    Unrecorded runs are left out, and those that the record keeps as evidence alone.
    """
    return set(db.scalars(_KEPT_IN_PREFECT_OF, {"ids": list(ids), "cutoff": cutoff, "kept": list(kept)}))
