"""One kind of runbook: how often it runs, fails, and how long it takes."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from exporter.dashboards.events import events
from exporter.dashboards.panels import board, choice, heat, lines, number
from exporter.dashboards.queries import RUNNING, once, quantile, rate, series, since

KIND = 'kind="$kind"'
DURATIONS = "ops_run_duration_seconds_bucket"


def kind() -> Dashboard:
    """For the chosen kind, over all lanes."""
    return (
        board("kind", "Ops room: one kind", tells="One kind of runbook, over all lanes.")
        .annotations(events(KIND))
        .with_variable(choice("kind", "ops_runs_created_total", several=False))
        .with_panel(
            number(
                "Unfinished",
                f"sum by (status) ({once('ops_runs', KIND)})",
                tells="Runs that wait, are claimed, or run.",
                legend="{{status}}",
                width=8,
            )
        )
        .with_panel(
            number(
                "Last success",
                f"time() - max({series('ops_run_last_success_timestamp_seconds', KIND)} > 0)",
                tells="How long ago a run of this kind last succeeded.",
                unit="s",
            )
        )
        .with_panel(
            number(
                "Failed, last hour",
                series("kind:ops_runs_failed:ratio1h", KIND),
                tells="Of the runs that succeeded or failed within an hour. By a recording rule.",
                unit="percentunit",
                limits=[(0.1, "yellow"), (0.5, "red")],
            )
        )
        .with_panel(
            number(
                "Ended, last day",
                series("kind_outcome:ops_runs_finished:increase1d", KIND),
                tells="By outcome. By a recording rule.",
                legend="{{outcome}}",
                decimals=0,
                width=8,
            )
        )
        .with_panel(
            lines(
                "Runs that ended, per minute",
                (f"60 * sum by (outcome) ({rate('ops_runs_finished_total', KIND)})", "{{outcome}}"),
                tells="By outcome.",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Runs created, per minute",
                (f"60 * sum by (lane) ({rate('ops_runs_created_total', KIND)})", "lane {{lane}}"),
                tells="By lane.",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "How long runs took",
                (quantile(0.5, DURATIONS, KIND), "median"),
                (quantile(0.95, DURATIONS, KIND), "95 %"),
                (series("kind:ops_run_duration_seconds:p95_1d", KIND), "95 % of a day"),
                tells="From start to end, of runs that ended in this time; the third line is by a recording rule.",
                unit="s",
            )
        )
        .with_panel(heat("Durations", f"sum by (le) ({rate(DURATIONS, KIND)})", tells="How often each was seen."))
        .with_panel(
            lines(
                "Longest running",
                (since("ops_runs_oldest_start_timestamp_seconds", KIND, RUNNING, by="lane"), "lane {{lane}}"),
                tells="How long the run has run that runs longest.",
                unit="s",
            )
        )
        .with_panel(
            lines(
                "Stuck runs",
                (f"sum by (lane) ({once('ops_runs_stuck', KIND)})", "lane {{lane}}"),
                tells="Unfinished runs without heartbeat. The sweeper ends them within seconds.",
            )
        )
    )
