"""Alerter and exporter: whether operators still hear what the room has to say, and what watching costs."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from exporter.dashboards.events import events
from exporter.dashboards.panels import board, lines, number
from exporter.dashboards.queries import age, once, rate, series

JOB = 'job="ops"'


def alerting() -> Dashboard:
    """Alerts and their delivery first, then the exporter itself."""
    pending, dead = f"max({once('ops_alert_outbox_pending')})", f"max({once('ops_alert_outbox_dead')})"
    failures = rate("ops_alert_delivery_failures_total")
    return (
        board("alerting", "Ops room: alerting and exporter", tells="Whether alerts reach operators, and at what cost.")
        .annotations(events())
        .with_panel(
            number(
                "Alerter's last look",
                age("ops_alerter_last_cycle_timestamp_seconds"),
                tells="It looks every few seconds.",
                unit="s",
                limits=[(30, "yellow"), (60, "red")],
            )
        )
        .with_panel(
            number(
                "Prefect last heard",
                age("ops_sync_last_event_timestamp_seconds"),
                tells="When the sync last had an answer from Prefect.",
                unit="s",
                limits=[(60, "yellow"), (120, "red")],
            )
        )
        .with_panel(
            number("To be delivered", pending, tells="Messages in the outbox.", limits=[(1, "yellow"), (10, "red")])
        )
        .with_panel(number("Given up", dead, tells="Messages that are not tried again.", limits=[(1, "red")]))
        .with_panel(
            number(
                "Exporters",
                f"sum({series('up', JOB)})",
                tells="Exporters that answer.",
                limits=[(0, "red"), (1, "green")],
            )
        )
        .with_panel(
            number(
                "Version",
                "count by (version) (ops_exporter_build_info)",
                tells="Exporters by version.",
                legend="{{version}}",
            )
        )
        .with_panel(
            lines(
                "Alert episodes",
                (f"sum by (state) ({once('ops_alert_episodes')})", "{{state}}"),
                tells="By state.",
            )
        )
        .with_panel(
            lines(
                "Deliveries, per minute",
                (f"60 * sum({rate('ops_alert_deliveries_total')})", "delivered"),
                (f"60 * sum by (reason) ({failures})", "failed: {{reason}}"),
                tells="Messages that were taken, and tries that failed, by reason.",
            )
        )
        .with_panel(
            lines(
                "Outbox",
                (pending, "to be delivered"),
                (dead, "given up"),
                tells="Messages that wait, and that are not tried again.",
            )
        )
        .with_panel(
            lines(
                "Collectors",
                ("max by (collector) (ops_exporter_collector_duration_seconds)", "{{collector}}"),
                tells="How long each part of a scrape took.",
                unit="s",
            )
        )
        .with_panel(
            lines(
                "Collectors that succeed",
                ("min by (collector) (ops_exporter_collector_success)", "{{collector}}"),
                tells="0 where one fails at any exporter.",
            )
        )
        .with_panel(
            lines(
                "Scrapes",
                (series("scrape_duration_seconds", JOB), "{{instance}}"),
                tells="How long Prometheus waited for each exporter.",
                unit="s",
                width=6,
            )
        )
        .with_panel(
            lines(
                "Samples",
                (series("scrape_samples_scraped", JOB), "{{instance}}"),
                tells="Does not depend on the number of runs.",
                width=6,
            )
        )
    )
