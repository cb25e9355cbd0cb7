"""Which backups were copied to a target, as the record of runs says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

_COPIES = """
SELECT id, finished_at, result -> 'target' ->> 'block' AS block, url
FROM ops.runs, LATERAL (
    SELECT result -> 'target' ->> 'url' AS url
    UNION ALL
    SELECT jsonb_path_query(result, '$.target.caught_up[*]') #>> '{}'
) copies
WHERE kind = 'odoo_db_backup' AND status = 'succeeded' AND finished_at IS NOT NULL
  AND result -> 'target' ->> 'block' <> '' AND url <> ''
ORDER BY finished_at
"""


@dataclass(frozen=True, kw_only=True)
class CopyMade:
    """A copy that was compared at its target when it was made. Retention there may have deleted it since."""

    target: str
    url: str
    verified_at: datetime
    run_id: UUID


def copies_made(db: Connection) -> dict[str, list[CopyMade]]:
    """The copies of each backup, by the dump's file name, the oldest first."""
    found: dict[str, list[CopyMade]] = {}
    for run_id, at, block, url in db.execute(text(_COPIES)):
        made = CopyMade(target=block, url=url, verified_at=at, run_id=run_id)
        found.setdefault(url.rpartition("/")[2], []).append(made)
    return found
