"""One scrape: every collector's statement on one connection, and what came of it.

Concurrent scrapes share one result. Whatever the database does, an answer is there in time: without the values that
could not be read, and with `ops_up 0`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import version

import psycopg
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector as Registry

from exporter.metrics.backups import BACKUPS
from exporter.metrics.collector import Collector, Room, Row
from exporter.metrics.parts import ALERTS, PARTS
from exporter.metrics.runs import RUNS
from exporter.metrics.totals import TOTALS
from opsdb.database import PatientConnection, first_line

log = logging.getLogger("ops.exporter")

COLLECTORS = (RUNS, TOTALS, BACKUPS, PARTS, ALERTS)
"""In the order in which they are asked. A scrape may take five statements."""
SCRAPE_SECONDS = 2.25
"""How long one scrape may wait for the database; an answer is due within 3 s."""

SESSION = {
    "role": "ops_monitor",
    "default_transaction_read_only": "on",
    "statement_timeout": "2000",
    "lock_timeout": "500",
    "jit": "off",  # compiling costs more than these statements
    "enable_seqscan": "off",  # whatever the statistics say: a plan that reads all runs gets slow with the history
    "search_path": "pg_catalog",
    "timezone": "UTC",
}


class Families(Registry):
    """The families of one scrape, as the encoders of prometheus_client want them."""

    def __init__(self, families: Iterable[Metric], *, up: bool) -> None:
        self._families = list(families)
        self.up = up

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


class Database:
    """The one connection, opened when it is needed and given up when it does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: PatientConnection | None = None

    def rows(self, sql: str, params: dict[str, float], *, deadline: float) -> Sequence[Row]:
        """The rows of a statement. Raises psycopg.Error, in time, if that fails."""
        if deadline - time.monotonic() <= 0:
            raise psycopg.OperationalError("no time was left to ask the database")
        if self._connection is None:
            self._connection = PatientConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=2,  # libpq knows no shorter one
                prepare_threshold=None,  # planned each time: the tables grow
                application_name="ops exporter",
                options=" ".join(f"-c {name}={value}" for name, value in SESSION.items()),
            )
        self._connection.silent_seconds = max(0.1, round(deadline - time.monotonic(), 1))
        try:
            return self._connection.execute(sql, params).fetchall()
        finally:
            if self._connection.closed:
                self._connection = None

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Scraper:
    """Answers scrapes, several at once with one result."""

    def __init__(self, url: str, room: Room, *, collectors: Sequence[Collector] = COLLECTORS) -> None:
        self._database = Database(url)
        self._room = room
        self._collectors = collectors
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ops-scrape")
        self._lock = threading.Lock()
        self._flight: Future[Families] | None = None
        self._errors: dict[str, str] = {}

    def scrape(self, *, seconds: float) -> Families:
        """What is so now, after `seconds` at most; then with `ops_up 0` and no value of the room."""
        with self._lock:
            if self._flight is None or self._flight.done():
                self._flight = self._pool.submit(self._collect)
            flight = self._flight
        try:
            return flight.result(timeout=seconds)
        except FutureTimeoutError:
            return Families(_exporter_families({each.name: (False, seconds) for each in self._collectors}), up=False)

    def close(self) -> None:
        """Wait for the scrape that is under way, and give the connection back."""
        self._pool.shutdown()
        self._database.close()

    def _collect(self) -> Families:
        deadline = time.monotonic() + SCRAPE_SECONDS
        families: list[Metric] = []
        outcomes: dict[str, tuple[bool, float]] = {}
        for collector in self._collectors:
            began = time.monotonic()
            good = self._collect_one(collector, families, deadline=deadline)
            outcomes[collector.name] = good, time.monotonic() - began
        up = all(good for good, _ in outcomes.values())
        return Families([*_exporter_families(outcomes), *families], up=up)

    def _collect_one(self, collector: Collector, families: list[Metric], *, deadline: float) -> bool:
        try:
            rows = self._database.rows(collector.sql, {"lost_seconds": self._room.lost_seconds}, deadline=deadline)
            families.extend(list(collector.families(rows, self._room)))  # all of them or none
        except Exception as error:  # whatever it is, the answer says it with a gauge
            self._log_change(collector.name, first_line(error))
            return False
        self._log_change(collector.name, "")
        return True

    def _log_change(self, name: str, error: str) -> None:
        """Log when a collector begins to fail, fails otherwise, or works again; not at every scrape."""
        if self._errors.get(name, "") != error:
            self._errors[name] = error
            if error:
                log.warning("collector %s fails: %s", name, error)
            else:
                log.info("collector %s works again", name)


def _exporter_families(outcomes: dict[str, tuple[bool, float]]) -> list[Metric]:
    up = GaugeMetricFamily("ops_up", "1 when all that this answer should hold could be read from the ops database.")
    up.add_metric([], int(all(good for good, _ in outcomes.values())))
    success = GaugeMetricFamily(
        "ops_exporter_collector_success", "1 when the collector's values are here.", labels=["collector"]
    )
    duration = GaugeMetricFamily(
        "ops_exporter_collector_duration_seconds", "Time that the collector took.", labels=["collector"]
    )
    for name, (good, seconds) in outcomes.items():
        success.add_metric([name], int(good))
        duration.add_metric([name], seconds)
    build = InfoMetricFamily("ops_exporter_build", "What answers here.")
    build.add_metric([], {"version": version("ops-control-room")})
    return [up, success, duration, build]
