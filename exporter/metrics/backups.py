"""The last good backup of each database, and on how many nights there was a fresh one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row
from opsdb.runs.backups import LAST_BACKUPS

SQL = f"""{LAST_BACKUPS}
SELECT database, extract(epoch FROM finished_at)::double precision,
       CASE WHEN jsonb_typeof(result -> 'size_bytes') = 'number'
            THEN (result ->> 'size_bytes')::double precision END,
       nights.fresh_nights, nights.nights
FROM last_backups FULL JOIN (SELECT * FROM ops.backup_nights LIMIT 500) nights USING (database)
"""  # noqa: S608 - of texts of ours


def families(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
    """Time, size and nights of each, by database. A backup run succeeds only when its dump was verified."""
    time = GaugeMetricFamily(
        "ops_backup_last_success_timestamp_seconds", "When a verified backup was last made.", labels=["database"]
    )
    size = GaugeMetricFamily("ops_backup_size_bytes", "Size of that backup.", labels=["database"])
    fresh = GaugeMetricFamily(
        "ops_backup_fresh_nights", "Judged nights with a fresh backup at 06:00 UTC.", labels=["database"]
    )
    judged = GaugeMetricFamily(
        "ops_backup_judged_nights", "Nights of the last 30 since the database was first tried.", labels=["database"]
    )
    for database, finished_at, size_bytes, fresh_nights, nights in rows:
        if finished_at is not None:
            time.add_metric([database], finished_at)
        if size_bytes is not None:
            size.add_metric([database], size_bytes)
        if nights is not None:
            fresh.add_metric([database], fresh_nights)
            judged.add_metric([database], nights)
    yield from (time, size, fresh, judged)
    yield GaugeMetricFamily(
        "ops_backup_objective_nights",
        "On how many of 30 nights each database is to have a fresh backup.",
        value=room.backup_objective,
    )


BACKUPS = Collector("backups", SQL, families)
