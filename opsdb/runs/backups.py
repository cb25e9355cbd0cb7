"""What the record of runs says of backups: copies at a target, restores that prove them, nights with a fresh one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Text, bindparam, text

from opsdb.proven import GOOD_BACKUP, SUCCEEDED

_COPIES = f"""
SELECT id, finished_at, result -> 'target' ->> 'block' AS block, url
FROM ops.runs, LATERAL (
    SELECT result -> 'target' ->> 'url' AS url
    UNION ALL
    SELECT jsonb_path_query(result, '$.target.caught_up[*]') #>> '{{}}'
) copies
WHERE {GOOD_BACKUP} AND finished_at IS NOT NULL
  AND result -> 'target' ->> 'block' <> '' AND url <> ''
ORDER BY finished_at
"""  # noqa: S608 - a constant
_DRILLS = f"""
SELECT DISTINCT ON (backup) backup, id, finished_at, restore_seconds FROM (
    SELECT result ->> 'backup' AS backup, id, finished_at, result -> 'restore_seconds' AS restore_seconds
    FROM ops.runs WHERE kind IN ('odoo_restore_drill', 'odoo_db_restore', 'odoo_staging_copy')
      AND {SUCCEEDED}
      AND coalesce(result -> 'missing_files', '[]') = '[]'
    UNION ALL
    SELECT result -> 'drill' ->> 'backup', id, finished_at, result -> 'drill' -> 'restore_seconds'
    FROM ops.runs WHERE {GOOD_BACKUP} AND result ? 'drill'
) drill
WHERE backup IS NOT NULL AND finished_at IS NOT NULL
ORDER BY backup, finished_at DESC
"""  # noqa: S608 - a constant
# where a process died without a word, its outcome is not known either; nor is one that has yet to be recorded,
# such as that of an attempt that began after an earlier one had died
_SET_TO_COMPLETED = f"""
SELECT id FROM ops.runs
WHERE id = ANY(:ids) AND status = 'succeeded' AND ({SUCCEEDED}) IS NOT TRUE
  AND EXISTS (
    SELECT FROM ops.run_states ended WHERE ended.run_id = runs.id AND ended.type IN ('FAILED', 'CRASHED')
      AND NOT EXISTS (SELECT FROM ops.run_states again
                      WHERE again.run_id = runs.id AND again.type = 'RUNNING' AND again.at > ended.at))
"""  # noqa: S608 - a constant
_SUMS = """
SELECT artifacts.name, artifacts.sha256 FROM ops.artifacts JOIN ops.runs ON runs.id = artifacts.run_id
WHERE runs.kind = 'odoo_db_backup' AND artifacts.kind = 'file' AND artifacts.sha256 IS NOT NULL
"""
# one look into the index for each database, however many backups it has: its own order is asked for, to the letter
LAST_BACKUPS = f"""
WITH RECURSIVE known(name) AS (
    SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE {GOOD_BACKUP} AND params ->> 'odoo_db' > ''
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    UNION ALL
    SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE {GOOD_BACKUP} AND params ->> 'odoo_db' > known.name
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    FROM known WHERE known.name IS NOT NULL
), last_backups AS (
    SELECT known.name AS database, last.finished_at, last.result
    FROM known CROSS JOIN LATERAL (
        SELECT finished_at, result FROM ops.runs
        WHERE {GOOD_BACKUP} AND params ->> 'odoo_db' = known.name
        ORDER BY params ->> 'odoo_db', finished_at DESC LIMIT 1
    ) last LIMIT 500
)"""  # noqa: S608 - a constant
"""The beginning of a query on `last_backups`: the newest backup of each database, 500 of them at most."""
_PROOFS = f"""{LAST_BACKUPS}, drills AS (
    SELECT regexp_replace(backup, '_[0-9]{{8}}T[0-9]{{6}}Z[.]dump$', '') AS name, max(finished_at) AS at
    FROM (DRILLS) restored GROUP BY 1
)
SELECT database, finished_at AS backup_at, result ->> 'size_bytes' AS size_bytes, drills.at AS drill_at
FROM last_backups LEFT JOIN drills ON drills.name = database
ORDER BY finished_at
""".replace("DRILLS", _DRILLS)  # noqa: S608 - of texts of ours


@dataclass(frozen=True, kw_only=True)
class LastProof:
    """What the record proves of a database: its last verified backup, and the last one that was restored."""

    database: str
    backup_at: datetime
    size_bytes: int | None
    drill_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class BackupNights:
    """Of the last 30 nights those since a database was first tried, and on how many it had a fresh backup at 06:00 UTC.

    The view `ops.backup_nights` says what fresh is.
    """

    database: str
    fresh_nights: int
    nights: int
    last_without_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class CopyMade:
    """A copy that was compared at its target when it was made. Retention there may have deleted it since."""

    target: str
    url: str
    verified_at: datetime
    run_id: UUID


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A restore of a backup that was compared and found good. `seconds` is how long pg_restore took."""

    run_id: UUID
    at: datetime
    seconds: float | None


def copies_made(db: Connection) -> dict[str, list[CopyMade]]:
    """The copies of each backup, by the dump's file name, the oldest first."""
    found: dict[str, list[CopyMade]] = {}
    for run_id, at, block, url in db.execute(text(_COPIES)):
        made = CopyMade(target=block, url=url, verified_at=at, run_id=run_id)
        found.setdefault(url.rpartition("/")[2], []).append(made)
    return found


def last_drills(db: Connection) -> dict[str, Drill]:
    """The last good restore of each whole backup, by the dump's file name."""
    return {
        backup: Drill(run_id=run_id, at=at, seconds=float(seconds) if isinstance(seconds, int | float) else None)
        for backup, run_id, at, seconds in db.execute(text(_DRILLS))
    }


def last_proofs(db: Connection) -> list[LastProof]:
    """Of each database that was ever backed up, the one with the oldest backup first."""
    return [
        LastProof(database=name, backup_at=at, size_bytes=_number(size), drill_at=drill)
        for name, at, size, drill in db.exec_driver_sql(_PROOFS)
    ]


def set_to_completed(db: Connection, run_ids: Collection[UUID]) -> set[UUID]:
    """Those of the runs whose last attempt failed, and that somebody set to Completed in Prefect since."""
    return set(db.scalars(text(_SET_TO_COMPLETED), {"ids": list(run_ids)}))


def backup_nights(db: Connection, *, database: str | None = None) -> list[BackupNights]:
    """Of each database that is backed up, or of one, by name."""
    query = text(
        "SELECT database, fresh_nights, nights, last_without_at FROM ops.backup_nights "
        "WHERE :database IS NULL OR database = :database ORDER BY database"
    )
    return [
        BackupNights(database=name, fresh_nights=fresh, nights=nights, last_without_at=at)
        for name, fresh, nights, at in db.execute(
            query.bindparams(bindparam("database", type_=Text)), {"database": database}
        )
    ]


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def recorded_sums(db: Connection) -> dict[str, set[str]]:
    """The sha256 of each file of a backup by its name, as the runs recorded them that made one of that name."""
    found: dict[str, set[str]] = {}
    for name, sha256 in db.execute(text(_SUMS)):
        found.setdefault(name, set()).add(sha256)
    return found
