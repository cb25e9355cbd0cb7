"""The families of metrics that the exporter promises: rules, dashboards and the made-up exporter are held to it."""

from __future__ import annotations

from dataclasses import dataclass

DURATION_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800)
WAIT_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


@dataclass(frozen=True)
class Family:
    """One family: a counter's name ends with `_total`, buckets are the upper bounds of a histogram, in seconds."""

    name: str
    type: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def sample_names(self) -> set[str]:
        """The names under which its samples are found."""
        return {f"{self.name}_{part}" for part in ("bucket", "sum", "count")} if self.buckets else {self.name}


FAMILIES = (
    Family("ops_up", "gauge"),
    Family("ops_runs", "gauge", ("kind", "lane", "status")),
    Family("ops_runs_stuck", "gauge", ("kind", "lane")),
    Family("ops_runs_oldest_heartbeat_timestamp_seconds", "gauge", ("kind", "lane")),
    Family("ops_runs_oldest_start_timestamp_seconds", "gauge", ("kind", "lane", "status")),
    Family("ops_lane_slots", "gauge", ("lane",)),
    Family("ops_lane_slots_used", "gauge", ("lane",)),
    Family("ops_workers", "gauge", ("lane",)),
    Family("ops_schedule_planned", "gauge", ("deployment", "schedule")),
    Family("ops_runs_created_total", "counter", ("kind", "lane")),
    Family("ops_runs_finished_total", "counter", ("kind", "lane", "outcome")),
    Family("ops_run_last_success_timestamp_seconds", "gauge", ("kind", "lane")),
    Family("ops_run_last_failure_timestamp_seconds", "gauge", ("kind", "lane")),
    Family("ops_backup_last_success_timestamp_seconds", "gauge", ("database",)),
    Family("ops_backup_size_bytes", "gauge", ("database",)),
    Family("ops_backup_fresh_nights", "gauge", ("database",)),
    Family("ops_backup_judged_nights", "gauge", ("database",)),
    Family("ops_backup_objective_nights", "gauge"),
    Family("ops_run_duration_seconds", "histogram", ("kind", "lane"), DURATION_BUCKETS),
    Family("ops_run_queue_wait_seconds", "histogram", ("lane",), WAIT_BUCKETS),
    Family("ops_alert_episodes", "gauge", ("state",)),
    Family("ops_alert_outbox_pending", "gauge"),
    Family("ops_alert_outbox_dead", "gauge"),
    Family("ops_alert_deliveries_total", "counter"),
    Family("ops_alert_delivery_failures_total", "counter", ("reason",)),
    Family("ops_alerter_last_cycle_timestamp_seconds", "gauge"),
    Family("ops_sync_last_event_timestamp_seconds", "gauge"),
    Family("ops_totals_last_fold_timestamp_seconds", "gauge"),
    Family("ops_prune_last_end_timestamp_seconds", "gauge"),
    Family("ops_lock_held", "gauge", ("lock", "role")),
    Family("ops_exporter_collector_duration_seconds", "gauge", ("collector",)),
    Family("ops_exporter_collector_success", "gauge", ("collector",)),
    Family("ops_exporter_build_info", "gauge", ("version",)),
)
