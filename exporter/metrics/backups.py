"""The last good backup of each database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row
from opsdb.runs.backups import LAST_BACKUPS

SQL = f"""{LAST_BACKUPS}
SELECT database, extract(epoch FROM finished_at)::double precision,
       CASE WHEN jsonb_typeof(result -> 'size_bytes') = 'number'
            THEN (result ->> 'size_bytes')::double precision END
FROM last_backups
"""  # noqa: S608 - of texts of ours


def families(rows: Sequence[Row], _room: Room) -> Iterator[Metric]:
    """Time and size of each, by database. A backup run succeeds only when its dump was verified."""
    time = GaugeMetricFamily(
        "ops_backup_last_success_timestamp_seconds", "When a verified backup was last made.", labels=["database"]
    )
    size = GaugeMetricFamily("ops_backup_size_bytes", "Size of that backup.", labels=["database"])
    for database, finished_at, size_bytes in rows:
        time.add_metric([database], finished_at)
        if size_bytes is not None:
            size.add_metric([database], size_bytes)
    yield from (time, size)


BACKUPS = Collector("backups", SQL, families)
