"""Lanes and queues: who serves a lane, what fills it, how long runs wait."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from exporter.dashboards.events import events
from exporter.dashboards.panels import board, choice, heat, lines, number
from exporter.dashboards.queries import QUEUED, once, quantile, rate, series, since

LANE = 'lane=~"$lane"'
NAME = "lane {{lane}}"
WAITS = "ops_run_queue_wait_seconds_bucket"


def lanes() -> Dashboard:
    """For the chosen lanes."""
    waiting = f"sum by (lane) ({once('ops_runs', LANE, QUEUED)})"
    return (
        board("lanes", "Ops room: lanes and queues", tells="Who serves the lanes, what fills them, how long runs wait.")
        .annotations(events(LANE))
        .with_variable(choice("lane", "ops_lane_slots", several=True))
        .with_panel(
            number(
                "Workers",
                once("ops_workers", LANE),
                tells="Workers that serve each lane. Without one nothing starts.",
                legend=NAME,
                limits=[(0, "red"), (1, "green")],
                width=8,
            )
        )
        .with_panel(number("Waiting", waiting, tells="Runs that wait in each lane.", legend=NAME, width=8))
        .with_panel(
            number(
                "Wait, 95th percentile of an hour",
                series("lane:ops_run_queue_wait_seconds:p95_1h", LANE),
                tells="By a recording rule.",
                legend=NAME,
                unit="s",
                limits=[(300, "yellow"), (1800, "red")],
                width=8,
            )
        )
        .with_panel(
            lines(
                "Slots in use",
                (once("ops_lane_slots_used", LANE), NAME),
                (f"max({once('ops_lane_slots', LANE)})", "limit"),
                tells="Runs that hold a slot, and the largest limit of the chosen lanes.",
            )
        )
        .with_panel(lines("Waiting runs", (waiting, NAME), tells="Runs that wait in each lane."))
        .with_panel(
            lines(
                "How long runs waited",
                (quantile(0.5, WAITS, LANE), "median"),
                (quantile(0.95, WAITS, LANE), "95 %"),
                (quantile(0.99, WAITS, LANE), "99 %"),
                tells="Of runs that started in this time, over the chosen lanes.",
                unit="s",
            )
        )
        .with_panel(heat("Waits", f"sum by (le) ({rate(WAITS, LANE)})", tells="How often each wait was seen."))
        .with_panel(
            lines(
                "Oldest waiting run",
                (since("ops_runs_oldest_start_timestamp_seconds", LANE, QUEUED, by="lane"), NAME),
                tells="How long the run has waited that waits longest.",
                unit="s",
            )
        )
        .with_panel(
            lines(
                "Oldest heartbeat",
                (since("ops_runs_oldest_heartbeat_timestamp_seconds", LANE, by="lane"), NAME),
                tells="A run beats every 5 s; one without for 30 s is stuck.",
                unit="s",
            )
        )
        .with_panel(
            lines(
                "Runs created, per minute",
                (f"60 * sum by (lane) ({rate('ops_runs_created_total', LANE)})", NAME),
                tells="What comes into each lane.",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Unfinished runs by kind",
                (f"sum by (kind) ({once('ops_runs', LANE)})", "{{kind}}"),
                tells="What fills the chosen lanes.",
                stacked=True,
            )
        )
    )
