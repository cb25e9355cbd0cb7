"""Backups: how fresh, how large, and how the runs went that made them."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from exporter.dashboards.events import events
from exporter.dashboards.panels import board, choice, lines, number
from exporter.dashboards.queries import age, once, quantile, rate

DATABASE = 'database=~"$database"'
NAME = "{{database}}"
KIND = 'kind="odoo_db_backup"'
LIMITS = [(24 * 3600, "yellow"), (26 * 3600, "red")]


def backups() -> Dashboard:
    """For the chosen databases. A backup counts from when it was verified."""
    old = age("ops_backup_last_success_timestamp_seconds", DATABASE)
    size = once("ops_backup_size_bytes", DATABASE)
    return (
        board("backups", "Ops room: backups", tells="How fresh and how large the verified backups are.")
        .annotations(events(KIND))
        .with_variable(choice("database", "ops_backup_last_success_timestamp_seconds", several=True))
        .with_panel(
            number(
                "Age of the last verified backup",
                old,
                tells="An alert fires after 26 hours.",
                legend=NAME,
                unit="s",
                limits=LIMITS,
                width=12,
            )
        )
        .with_panel(
            number(
                "Size of the last backup",
                size,
                tells="An alert fires when it is less than half of the largest in a week.",
                legend=NAME,
                unit="bytes",
                width=12,
            )
        )
        .with_panel(
            number(
                "Nights with a fresh backup",
                once("ops_backup_fresh_nights", DATABASE),
                tells="Of the last 30 nights: at 06:00 UTC the last verified backup was younger than 26 hours.",
                legend=NAME,
                width=12,
            )
        )
        .with_panel(
            number(
                "Nights without one",
                f"{once('ops_backup_judged_nights', DATABASE)} - {once('ops_backup_fresh_nights', DATABASE)}",
                tells="Since the database was first backed up. An alert fires above what OPS_BACKUP_OBJECTIVE allows.",
                legend=NAME,
                limits=[(1, "yellow"), (3, "red")],
                width=12,
            )
        )
        .with_panel(lines("Age", (old, NAME), tells="Falls when a backup was verified.", unit="s"))
        .with_panel(lines("Size", (size, NAME), tells="Of the last verified backup.", unit="bytes"))
        .with_panel(
            lines(
                "Backup runs that ended, per minute",
                (f"60 * sum by (outcome) ({rate('ops_runs_finished_total', KIND)})", "{{outcome}}"),
                tells="Runs of odoo_db_backup, by outcome.",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "How long backups took, 95th percentile",
                (quantile(0.95, "ops_run_duration_seconds_bucket", KIND), "odoo_db_backup"),
                tells="Runs of odoo_db_backup that ended in this time.",
                unit="s",
            )
        )
    )
