"""The last good backup of each database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row

# one look into the index for each database, however many backups it has: its own order is asked for, to the letter
SQL = """
WITH RECURSIVE known(name) AS (
    SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE kind = 'odoo_db_backup' AND status = 'succeeded' AND params ->> 'odoo_db' > ''
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    UNION ALL
    SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE kind = 'odoo_db_backup' AND status = 'succeeded' AND params ->> 'odoo_db' > known.name
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    FROM known WHERE known.name IS NOT NULL
)
SELECT known.name, extract(epoch FROM last.finished_at)::double precision,
       CASE WHEN jsonb_typeof(last.result -> 'size_bytes') = 'number'
            THEN (last.result ->> 'size_bytes')::double precision END
FROM known CROSS JOIN LATERAL (
    SELECT finished_at, result FROM ops.runs
    WHERE kind = 'odoo_db_backup' AND status = 'succeeded' AND params ->> 'odoo_db' = known.name
    ORDER BY params ->> 'odoo_db', finished_at DESC LIMIT 1
) last LIMIT 500
"""


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
