"""An endpoint that serves every family the exporter promises, of a made-up room in which things happen.

Runs arrive, wait for a slot, run, succeed, fail, are cancelled; now and then one is stuck. It needs no database, and
a seed makes it repeatable.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tests.support.families import FAMILIES, Family

LANES = ("A", "B", "C", "D")
KINDS = ("odoo_db_backup", "odoo_module_upgrade", "stored_command")
SLOTS = 3
STUCK_AFTER = 30.0
ENDED_STUCK = 36.0


@dataclass
class MadeUpRun:
    """One run: its times are those of this machine, its end is known from the start."""

    kind: str
    lane: str
    created_at: float
    takes: float
    outcome: str
    started_at: float | None = None

    def heartbeat_at(self, now: float) -> float:
        """Every 5 s, but a run that is to get stuck stops at its start."""
        started = self.started_at or now
        return started if self.outcome == "stuck" else now - (now - started) % 5


@dataclass
class Room:
    """The runs of a room and what was ever counted of them."""

    now: float
    pace: float
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    runs: list[MadeUpRun] = field(default_factory=list)
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    durations: dict[tuple[str, ...], list[float]] = field(default_factory=dict)
    waits: dict[tuple[str, ...], list[float]] = field(default_factory=dict)
    successes: dict[tuple[str, ...], float] = field(default_factory=dict)
    failures: dict[tuple[str, ...], float] = field(default_factory=dict)

    def step(self, now: float) -> None:
        """Let happen what happens until `now`."""
        self.now = now
        for lane, each_second in zip(LANES, (0.42, 0.3, 0.15, 0.06), strict=True):
            if self.dice.random() < each_second * self.pace:
                kind = self.dice.choices(KINDS, (2, 1, 3))[0]
                takes = self.dice.lognormvariate(1.6, 0.5) / self.pace
                outcome = self.dice.choices(("succeeded", "failed", "cancelled", "stuck"), (90, 6, 3, 1))[0]
                self.runs.append(MadeUpRun(kind, lane, now, ENDED_STUCK if outcome == "stuck" else takes, outcome))
                self.counts["created", kind, lane] += 1
        for run in list(self.runs):
            if run.started_at is None and self.used(run.lane) < SLOTS:
                run.started_at = now
                self.waits.setdefault((run.lane,), []).append(now - run.created_at)
            elif run.started_at is not None and now - run.started_at >= run.takes:
                self._end(run)

    def used(self, lane: str) -> int:
        """Slots that are taken in a lane."""
        return sum(run.lane == lane and run.started_at is not None for run in self.runs)

    def _end(self, run: MadeUpRun) -> None:
        self.runs.remove(run)
        outcome = "failed" if run.outcome == "stuck" else run.outcome
        self.counts["finished", run.kind, run.lane, outcome] += 1
        self.durations.setdefault((run.kind, run.lane), []).append(run.takes)
        if outcome == "succeeded":
            self.successes[run.kind, run.lane] = self.now
        if outcome == "failed":
            self.failures[run.kind, run.lane] = self.now
            self.counts["delivered",] += 1
            self.counts["undelivered", "http_503"] += 1

    def samples(self, name: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """The label values and value of each sample of a family that is no histogram."""
        pairs = [(kind, lane) for kind in KINDS for lane in LANES]
        if name == "ops_runs":
            for kind, lane in pairs:
                own = [run for run in self.runs if (run.kind, run.lane) == (kind, lane)]
                running = sum(run.started_at is not None for run in own)
                yield from (((kind, lane, "queued"), len(own) - running), ((kind, lane, "claimed"), 0))
                yield (kind, lane, "running"), running
        elif name == "ops_runs_stuck":
            silent = Counter(
                (run.kind, run.lane) for run in self.runs if self.now - run.heartbeat_at(self.now) > STUCK_AFTER
            )
            yield from ((pair, silent[pair]) for pair in pairs)
        elif name.startswith("ops_runs_oldest"):
            yield from self._oldest(name)
        elif name in ("ops_lane_slots", "ops_lane_slots_used", "ops_workers"):
            for lane in LANES:
                yield (lane,), {"ops_lane_slots": SLOTS, "ops_workers": 1}.get(name, self.used(lane))
        elif name == "ops_runs_created_total":
            yield from (((kind, lane), self.counts["created", kind, lane]) for kind, lane in pairs)
        elif name == "ops_runs_finished_total":
            for outcome in ("succeeded", "failed", "cancelled"):
                yield from (((*pair, outcome), self.counts["finished", *pair, outcome]) for pair in pairs)
        elif name == "ops_run_last_success_timestamp_seconds":
            yield from self.successes.items()
        elif name == "ops_run_last_failure_timestamp_seconds":
            yield from self.failures.items()
        else:
            yield from self._beside_runs()[name].items()

    def _oldest(self, name: str) -> Iterator[tuple[tuple[str, ...], float]]:
        oldest: dict[tuple[str, ...], float] = {}
        for run in self.runs:
            key: tuple[str, ...]
            if name.endswith("heartbeat_timestamp_seconds"):
                key, at = (run.kind, run.lane), run.heartbeat_at(self.now)
            else:
                status = "queued" if run.started_at is None else "running"
                key, at = (run.kind, run.lane, status), run.started_at or run.created_at
            oldest[key] = min(at, oldest.get(key, at))
        yield from oldest.items()

    def _beside_runs(self) -> dict[str, dict[tuple[str, ...], float]]:
        databases = {("odoo_prod",): 9.5 * 3600, ("odoo_staging",): 10.1 * 3600}
        collectors = [("runs",), ("totals",), ("backups",), ("alerts",)]
        firing = sum(run.outcome == "stuck" for run in self.runs)
        return {
            "ops_up": {(): 1},
            "ops_backup_last_success_timestamp_seconds": {name: self.now - age for name, age in databases.items()},
            "ops_backup_size_bytes": {("odoo_prod",): 812e6, ("odoo_staging",): 95e6},
            "ops_backup_fresh_nights": {("odoo_prod",): 30, ("odoo_staging",): 11},
            "ops_backup_judged_nights": {("odoo_prod",): 30, ("odoo_staging",): 12},
            "ops_backup_objective_nights": {(): 28},
            "ops_alert_episodes": {("untold",): 0, ("told",): firing, ("silenced",): 0},
            "ops_alert_outbox_pending": {(): firing},
            "ops_alert_outbox_dead": {(): 0},
            "ops_alert_deliveries_total": {(): self.counts["delivered",]},
            "ops_alert_delivery_failures_total": {("http_503",): self.counts["undelivered", "http_503"]},
            "ops_alerter_last_cycle_timestamp_seconds": {(): self.now},
            "ops_sync_last_event_timestamp_seconds": {(): self.now},
            "ops_totals_last_fold_timestamp_seconds": {(): self.now},
            "ops_prune_last_end_timestamp_seconds": {(): self.now - 3600},
            "ops_schedule_planned": {("nightly_backup/nightly-backup", "nightly"): 1},
            "ops_lock_held": {("alerter", ""): 0, ("totals", ""): 0, ("verdicts", ""): 0},
            "ops_exporter_collector_duration_seconds": {name: self.dice.uniform(0.001, 0.004) for name in collectors},
            "ops_exporter_collector_success": dict.fromkeys(collectors, 1.0),
            "ops_exporter_build_info": {("0.1.0",): 1},
        }


class MadeUpExporter(Collector):
    """What Prometheus scrapes: the room as it stands, by the families' list."""

    def __init__(self, *, warm_up_seconds: int, pace: float) -> None:
        self._lock = threading.Lock()
        start = time.time() - warm_up_seconds
        self._room = Room(start, pace)
        for second in range(warm_up_seconds):
            self._room.step(start + second)

    def collect(self) -> Iterator[Metric]:
        """The families as they stand now."""
        with self._lock:
            while self._room.now + 1 <= time.time():
                self._room.step(self._room.now + 1)
            yield from [self._family(family) for family in FAMILIES]

    def _family(self, family: Family) -> Metric:
        if family.buckets:
            return self._histogram(family)
        kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
        made = kind(family.name, f"Made up: {family.name}.", labels=family.labels)
        for labels, value in self._room.samples(family.name):
            made.add_metric(labels, value)
        return made

    def _histogram(self, family: Family) -> Metric:
        made = HistogramMetricFamily(family.name, f"Made up: {family.name}.", labels=family.labels)
        seen = self._room.durations if "kind" in family.labels else self._room.waits
        for labels, values in seen.items():
            bounds = [(str(bound), sum(value <= bound for value in values)) for bound in family.buckets]
            made.add_metric(labels, [*bounds, ("+Inf", len(values))], sum(values))
        return made


@contextmanager
def serving(*, warm_up_seconds: int = 300, pace: float = 1.0) -> Iterator[str]:
    """Serve a room that has been at work for a while on a free loopback port; yields `host:port`.

    At half the pace half as many runs come, and take twice as long.
    """
    registry = CollectorRegistry()
    registry.register(MadeUpExporter(warm_up_seconds=warm_up_seconds, pace=pace))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
