"""The unfinished runs: how many, in which state, and the oldest of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row
from opsdb.states import POSTPONED

UNFINISHED = ("queued", "suspended", "postponed", "claimed", "running")
"""Suspended: queued, for an approval and not for a slot. Postponed: queued, for a time that has not come, or for its
turn after a time of its own choice: it has begun already, and those that have not show what holds up its lane."""
IN_A_SLOT = ("claimed", "running")

# through the partial index of unfinished runs: the history is never looked at
SQL = f"""
SELECT kind, lane::text, CASE WHEN status = 'queued' AND runs.due_at > statement_timestamp() THEN 'postponed'
                              WHEN waits.id IS NULL THEN status
                              WHEN waits.type = 'PAUSED' THEN 'suspended' ELSE 'postponed' END, count(*),
       count(*) FILTER (WHERE status <> 'queued'
                        AND heartbeat_at < statement_timestamp() - make_interval(secs => %(lost_seconds)s)),
       extract(epoch FROM min(heartbeat_at) FILTER (WHERE status <> 'queued'))::double precision,
       extract(epoch FROM min(CASE WHEN status = 'running' THEN started_at
                                   WHEN status = 'claimed' THEN claimed_at
                                   -- of one that was planned and is wanted sooner, created_at is ahead
                                   WHEN attempt = 1 THEN greatest(CASE WHEN created_at < statement_timestamp()
                                                                       THEN created_at END, runs.due_at)
                                   ELSE state_at END))::double precision
FROM ops.runs
     -- to wait for an approval, or for a time of its own choice, begins another attempt
     LEFT JOIN ops.run_states waits
          ON runs.attempt > 1 AND runs.status = 'queued' AND waits.id = runs.state_id
             AND (waits.type = 'PAUSED' OR waits.name = 'Late' OR starts_with(waits.message, '{POSTPONED}'))
WHERE finished_at IS NULL GROUP BY 1, 2, 3
"""  # noqa: S608 - a constant


def families(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
    """Gauges of what is unfinished now, and of the slots it takes."""
    kinds = sorted({*room.kinds, *(row[0] for row in rows)})
    pairs = [(kind, lane) for kind in kinds for lane in room.lanes]
    runs = {row[:3]: row for row in rows}

    count = GaugeMetricFamily("ops_runs", "Unfinished runs.", labels=["kind", "lane", "status"])
    started = GaugeMetricFamily(
        "ops_runs_oldest_start_timestamp_seconds",
        "Since when the longest one has been in this status.",
        labels=["kind", "lane", "status"],
    )
    for kind, lane in pairs:
        for status in UNFINISHED:
            row = runs.get((kind, lane, status))
            count.add_metric([kind, lane, status], row[3] if row else 0)
            if row and row[6] is not None:
                started.add_metric([kind, lane, status], row[6])

    stuck = GaugeMetricFamily(
        "ops_runs_stuck", "Claimed or running ones whose heartbeat is too old.", labels=["kind", "lane"]
    )
    heartbeat = GaugeMetricFamily(
        "ops_runs_oldest_heartbeat_timestamp_seconds",
        "The oldest heartbeat of a claimed or running one.",
        labels=["kind", "lane"],
    )
    for kind, lane in pairs:
        held = [row for status in IN_A_SLOT if (row := runs.get((kind, lane, status)))]
        stuck.add_metric([kind, lane], sum(row[4] for row in held))
        if beats := [row[5] for row in held if row[5] is not None]:
            heartbeat.add_metric([kind, lane], min(beats))

    used = GaugeMetricFamily("ops_lane_slots_used", "Runs that are claimed or running in the lane.", labels=["lane"])
    for lane in room.lanes:
        used.add_metric([lane], sum(row[3] for row in rows if row[1] == lane and row[2] in IN_A_SLOT))
    yield from (count, stuck, heartbeat, started, used)


RUNS = Collector("runs", SQL, families)
