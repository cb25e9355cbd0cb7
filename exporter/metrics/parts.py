"""The room's own parts: which workers serve the lanes, how far the sync is, what the alerter has done and has to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row
from opsdb.alerts.figures import DELIVERED, FIGURES, REASONS, STATES

SQL = """
SELECT lane, count(*)::double precision FROM ops.workers
WHERE heartbeat_at > statement_timestamp() - make_interval(secs => %(lost_seconds)s) GROUP BY lane
UNION ALL
SELECT 'sync', extract(epoch FROM updated_at)::double precision FROM ops.sync_marks WHERE name = 'sync'
"""


def _workers_and_sync(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
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


def _alerts(rows: Sequence[Row], _room: Room) -> Iterator[Metric]:
    """The figures of all rules and destinations together."""
    lasting, pending, dead, totals, last_cycle_at = rows[0]
    counts = {DELIVERED: 0} | dict.fromkeys(REASONS, 0) | (totals or {})
    episodes = GaugeMetricFamily("ops_alert_episodes", "What holds now, by whether it was told.", labels=["state"])
    for state in STATES:
        episodes.add_metric([state], (lasting or {}).get(state, 0))
    yield episodes
    yield GaugeMetricFamily("ops_alert_outbox_pending", "Deliveries that are still to be made.", value=pending)
    yield GaugeMetricFamily("ops_alert_outbox_dead", "Deliveries that were given up.", value=dead)
    yield CounterMetricFamily("ops_alert_deliveries", "Deliveries that were made.", value=counts.pop(DELIVERED))
    failures = CounterMetricFamily("ops_alert_delivery_failures", "Attempts to deliver that failed.", labels=["reason"])
    for reason, count in sorted(counts.items()):
        failures.add_metric([reason], count)
    yield failures
    cycle = GaugeMetricFamily("ops_alerter_last_cycle_timestamp_seconds", "When the alerter last looked.")
    if last_cycle_at is not None:
        cycle.add_metric([], last_cycle_at.timestamp())
    yield cycle


PARTS = Collector("parts", SQL, _workers_and_sync)
ALERTS = Collector("alerts", FIGURES, _alerts)
