"""The room's own parts: which workers serve the lanes, and how far the sync is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row

SQL = """
SELECT lane, count(*)::double precision FROM ops.workers
WHERE heartbeat_at > statement_timestamp() - make_interval(secs => %(lost_seconds)s) GROUP BY lane
UNION ALL
SELECT 'sync', extract(epoch FROM updated_at)::double precision FROM ops.sync_marks WHERE name = 'sync'
"""


def families(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
    """Workers by lane, and when the sync last brought what Prefect knows."""
    found: dict[str, float] = {name: value for name, value in rows}  # noqa: C416  # a Row has no length for mypy
    workers = GaugeMetricFamily("ops_workers", "Worker processes that serve the lane.", labels=["lane"])
    for lane in room.lanes:
        workers.add_metric([lane], found.get(lane, 0))
    synced = GaugeMetricFamily(
        "ops_sync_last_event_timestamp_seconds", "When `ops sync` last had all that Prefect knows."
    )
    if "sync" in found:
        synced.add_metric([], found["sync"])
    yield from (workers, synced)


PARTS = Collector("parts", SQL, families)
