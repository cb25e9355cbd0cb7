"""Counters and histograms: what was ever counted of runs, folded or not, read in one statement."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from exporter.metrics.collector import Collector, Room, Row

OUTCOMES = ("succeeded", "failed", "cancelled")
DURATION_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800)
QUEUE_WAIT_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

Bucket = tuple[float, int, Decimal]
"""The upper bound of what a bucket holds, how many it holds, and their exact sum."""

SQL = """
SELECT name, kind, lane, label, sum(count)::bigint, sum(value), extract(epoch FROM max(at))::double precision
FROM (SELECT name, kind, lane, label, count, value, latest_at AS at FROM ops.metric_totals
      UNION ALL SELECT name, kind, lane, label, count, value, at FROM ops.metric_deltas) counted
WHERE name IN ('created', 'finished', 'duration', 'queue_wait')
GROUP BY name, kind, lane, label
"""


def families(rows: Sequence[Row], room: Room) -> Iterator[Metric]:
    """Every known kind in every lane, at zero where nothing happened: a first failure is an increase then."""
    kinds = sorted({*room.kinds, *(row[1] for row in rows)})
    pairs = [(kind, lane) for kind in kinds for lane in room.lanes]
    found = {row[:4]: row[4:] for row in rows}

    created = CounterMetricFamily("ops_runs_created", "Runs that were asked for.", labels=["kind", "lane"])
    finished = CounterMetricFamily(
        "ops_runs_finished", "Ends of runs, each attempt for itself.", labels=["kind", "lane", "outcome"]
    )
    success = GaugeMetricFamily(
        "ops_run_last_success_timestamp_seconds", "When a run last succeeded.", labels=["kind", "lane"]
    )
    failure = GaugeMetricFamily(
        "ops_run_last_failure_timestamp_seconds", "When a run last failed.", labels=["kind", "lane"]
    )
    for kind, lane in pairs:
        created.add_metric([kind, lane], found.get(("created", kind, lane, ""), (0,))[0])
        for outcome in OUTCOMES:
            finished.add_metric([kind, lane, outcome], found.get(("finished", kind, lane, outcome), (0,))[0])
        for family, outcome in ((success, "succeeded"), (failure, "failed")):
            if last := found.get(("finished", kind, lane, outcome)):
                family.add_metric([kind, lane], last[2])
    yield from (created, finished, success, failure)

    duration = HistogramMetricFamily(
        "ops_run_duration_seconds", "From start to end, each attempt for itself.", labels=["kind", "lane"]
    )
    wait = HistogramMetricFamily(
        "ops_run_queue_wait_seconds", "From being asked for, or due, to the start.", labels=["lane"]
    )
    durations: dict[tuple[str, str], list[Bucket]] = defaultdict(list)
    waits: dict[str, list[Bucket]] = defaultdict(list)
    for name, kind, lane, bound, count, total, _ in rows:
        if name == "duration":
            durations[kind, lane].append((float(bound), count, total))
        elif name == "queue_wait":
            waits[lane].append((float(bound), count, total))
    for kind, lane in pairs:
        duration.add_metric([kind, lane], *histogram(durations[kind, lane], DURATION_SECONDS))
    for lane in room.lanes:
        wait.add_metric([lane], *histogram(waits[lane], QUEUE_WAIT_SECONDS))
    yield from (duration, wait)


def histogram(raw: Sequence[Bucket], bounds: Sequence[float]) -> tuple[list[tuple[str, float]], float]:
    """Cumulated buckets, the last one `+Inf`, and the sum, from raw ones in any order."""
    buckets = [
        (
            "+Inf" if bound == math.inf else str(float(bound)),
            float(sum(count for upper, count, _ in raw if upper <= bound)),
        )
        for bound in (*bounds, math.inf)
    ]
    return buckets, float(sum(total for _, _, total in raw))


TOTALS = Collector("totals", SQL, families)
