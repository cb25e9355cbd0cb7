"""Alerts in numbers: what lasts, what waits to be delivered, and how deliveries ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row
from opsdb.alerts.outbox import DELIVERED, REASONS
from opsdb.alerts.read import FIGURES, STATES


def families(rows: Sequence[Row], _room: Room) -> Iterator[Metric]:
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


ALERTS = Collector("alerts", FIGURES, families)
