"""The fleet overview: is the room well, what does it do, what does it fail at."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from exporter.dashboards.events import events
from exporter.dashboards.panels import board, lines, number
from exporter.dashboards.queries import QUEUED, RUNNING, once, quantile, rate


def fleet() -> Dashboard:
    """One row of numbers that should be green, then four graphs."""
    return (
        board("fleet", "Ops room: fleet overview", tells="The whole room at a glance.")
        .annotations(events())
        .with_panel(
            number(
                "Database",
                "max(ops_exporter_collector_success)",
                tells="Whether the exporter gets anything out of the ops database.",
                words={"0": "away", "1": "answers"},
                limits=[(0, "red"), (1, "green")],
            )
        )
        .with_panel(number("Running", f"sum({once('ops_runs', RUNNING)})", tells="Runs that execute now."))
        .with_panel(number("Waiting", f"sum({once('ops_runs', QUEUED)})", tells="Runs that wait in a lane."))
        .with_panel(
            number(
                "Stuck",
                f"sum({once('ops_runs_stuck')})",
                tells="Unfinished runs without heartbeat. The sweeper ends them within seconds.",
                limits=[(1, "red")],
            )
        )
        .with_panel(
            number(
                "Success, last day",
                "job:ops_runs_succeeded:ratio1d",
                tells="Of the runs that succeeded or failed within a day. By a recording rule.",
                unit="percentunit",
                limits=[(0, "red"), (0.9, "yellow"), (0.98, "green")],
            )
        )
        .with_panel(
            number(
                "Oldest backup",
                "time() - min(database:ops_backup_last_success_timestamp_seconds:max)",
                tells="Age of the last verified backup, of the database where it is oldest. By a recording rule.",
                unit="s",
                limits=[(24 * 3600, "yellow"), (26 * 3600, "red")],
            )
        )
        .with_panel(
            lines(
                "Unfinished runs",
                (f"sum by (status) ({once('ops_runs')})", "{{status}}"),
                tells="Runs that wait, are claimed, or run.",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Runs that ended, per minute",
                (f"60 * sum by (outcome) ({rate('ops_runs_finished_total')})", "{{outcome}}"),
                tells="By outcome.",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Lanes: slots in use",
                (f"{once('ops_lane_slots_used')} / ({once('ops_lane_slots')} > 0)", "lane {{lane}}"),
                tells="Of the slots that a lane has. At 100 % its runs wait.",
                unit="percentunit",
            )
        )
        .with_panel(
            lines(
                "Lanes: wait, 95th percentile",
                (quantile(0.95, "ops_run_queue_wait_seconds_bucket", by="lane, le"), "lane {{lane}}"),
                tells="How long runs waited that started in this time.",
                unit="s",
            )
        )
    )
