"""How long the runs of a kind usually take, and how often they succeed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

# a run is about what it holds alone, or what its parameters name first
_STATS = text("""
WITH ended AS (
    SELECT kind, status, finished_at,
           coalesce(nullif(split_part(resource, ':', 2), ''), params ->> 'odoo_db', params ->> 'odoo_host',
                    params ->> 'droplet_name') AS about,
           CASE WHEN status = 'succeeded' THEN CAST(extract(epoch FROM finished_at - started_at) AS float8) END AS took
    FROM ops.runs
    WHERE finished_at IS NOT NULL AND (CAST(:kind AS text) IS NULL OR kind = :kind)
      AND finished_at >= coalesce(CAST(:at AS timestamptz), clock_timestamp() - CAST(:length AS interval))
)
SELECT kind, about, grouping(about) = 1 AS in_all, count(*) AS runs,
       count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS median_seconds,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY took) AS p95_seconds,
       max(took) AS longest_seconds, max(finished_at) AS last_at
FROM ended
GROUP BY GROUPING SETS ((kind), (kind, about))
ORDER BY kind, in_all DESC, about
""")


@dataclass(frozen=True, kw_only=True)
class Stats:
    """The runs of a kind that ended, all of them or those about one database or host.

    Durations are in seconds, of the attempts that succeeded, without their wait in the queue.
    """

    kind: str
    about: str | None
    """The database or host; None where the runs name none, and for all together."""
    in_all: bool
    """Whether these are all runs of the kind."""
    runs: int
    succeeded: int
    failed: int
    cancelled: int
    median_seconds: float | None
    p95_seconds: float | None
    longest_seconds: float | None
    last_at: datetime
    """When the last of them ended."""

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; what somebody cancelled counts on neither side. None where nothing was tried to its end."""
        tried = self.succeeded + self.failed
        return self.succeeded / tried if tried else None


def read_stats(db: Connection, *, since: timedelta | datetime, kind: str | None = None) -> list[Stats]:
    """Of each kind, or of one, that has runs which ended since then: all, then those about each database or host."""
    at, length = (since, None) if isinstance(since, datetime) else (None, since)
    return [Stats(**row) for row in db.execute(_STATS, {"kind": kind, "at": at, "length": length}).mappings()]
