"""The room's own parts: which workers serve the lanes, what those may execute, how far the sync is, when what is old
was last deleted, which schedules have runs, who holds the room's locks, and what the alerter has done and has to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row
from opsdb.alerts.outbox import DELIVERED, REASONS
from opsdb.alerts.read import FIGURES, STATES

SQL = """
SELECT 'worker' AS what, lane AS name, '' AS role, count(*)::double precision FROM ops.workers
WHERE heartbeat_at > statement_timestamp() - make_interval(secs => %(lost_seconds)s) GROUP BY lane
UNION ALL
SELECT 'mark', name, '', extract(epoch FROM updated_at)::double precision FROM ops.sync_marks
WHERE name IN ('sync', 'totals')
UNION ALL
SELECT 'pruned', started_by, '', extract(epoch FROM max(finished_at))::double precision FROM ops.prunes
WHERE finished_at IS NOT NULL GROUP BY started_by
UNION ALL
SELECT 'first prune', '', '', extract(epoch FROM min(started_at))::double precision FROM ops.prunes
WHERE started_by = 'room' HAVING count(*) > 0
UNION ALL
SELECT 'slots', lane, '', coalesce(slots, 'Infinity'::double precision) FROM ops.lane_limits
UNION ALL
SELECT 'planned', deployment, name, (fault IS NULL AND unplanned_since IS NULL)::int
FROM ops.schedule_plans WHERE active OR fault IS NOT NULL
UNION ALL
SELECT 'lock', l.name, coalesce(holder.usename::text, ''), (holder.pid IS NOT NULL)::int
FROM ops.room_locks l LEFT JOIN LATERAL (
    SELECT a.pid, a.usename
    FROM pg_locks t JOIN pg_stat_activity a ON a.pid = t.pid
    WHERE t.locktype = 'transactionid' AND t.mode = 'ExclusiveLock' AND t.transactionid = l.xmax LIMIT 1) holder ON true
WHERE l.name <> 'prune' -- a pass may take hours, and keeps nobody from their work
"""


def _workers_and_sync(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
    """Workers by lane, when the sync last brought what Prefect knows, added up counts and pruned, who holds a lock."""
    found: dict[tuple[str, str], float] = {(what, name): value for what, name, _, value in rows}
    workers = GaugeMetricFamily("ops_workers", "Worker processes that serve the lane.", labels=["lane"])
    for lane in room.lanes:
        workers.add_metric([lane], found.get(("worker", lane), 0))
    synced = GaugeMetricFamily(
        "ops_sync_last_event_timestamp_seconds", "When `ops sync` last had all that Prefect knows."
    )
    folded = GaugeMetricFamily(
        "ops_totals_last_fold_timestamp_seconds", "When `ops sync` last added up what was counted."
    )
    for family, mark in ((synced, "sync"), (folded, "totals")):
        if ("mark", mark) in found:
            family.add_metric([], found["mark", mark])
    pruned = GaugeMetricFamily(
        "ops_prune_last_end_timestamp_seconds", "When the room last came to the end of deleting what is old."
    )
    if ("pruned", "installation") in found if room.prunes is None else room.prunes:
        ends = [found[key] for by in ("room", "installation") if (key := ("pruned", by)) in found]
        if ends or ("first prune", "") in found:  # of an older room, none may ever have come to its end
            pruned.add_metric([], max(ends) if ends else found["first prune", ""])
    held = GaugeMetricFamily(
        "ops_lock_held", "1 while a session of the role holds a lock of the room.", labels=["lock", "role"]
    )
    for what, name, role, value in rows:
        if what == "lock":
            held.add_metric([name, role], value)
    yield from (workers, synced, folded, pruned, held)


def _lanes_and_schedules(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
    """What Prefect lets the lanes execute, and the runs that it planned."""
    limits = {name: value for what, name, _, value in rows if what == "slots"}
    slots = GaugeMetricFamily("ops_lane_slots", "Runs that the lane executes at once; 0: paused.", labels=["lane"])
    for lane in room.lanes:
        slots.add_metric([lane], limits.get(lane, room.lane_limit))
    planned = GaugeMetricFamily(
        "ops_schedule_planned",
        "0 when an active schedule has no planned run, or never fires.",
        labels=["deployment", "schedule"],
    )
    for what, deployment, schedule, value in rows:
        if what == "planned":
            planned.add_metric([deployment, schedule], value)
    yield from (slots, planned)


def _alerts(rows: Sequence[Row], _room: Room) -> Iterator[Metric]:
    """The figures of all rules and destinations together."""
    lasting, pending, dead, totals, last_cycle_at = rows[0]
    counts = {DELIVERED: 0} | dict.fromkeys(REASONS, 0) | (totals or {})
    episodes = GaugeMetricFamily("ops_alert_episodes", "Active episodes, by whether reported.", labels=["state"])
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


def _parts(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
    yield from _workers_and_sync(rows, room)
    yield from _lanes_and_schedules(rows, room)


PARTS = Collector("parts", SQL, _parts)
ALERTS = Collector("alerts", FIGURES, _alerts)
