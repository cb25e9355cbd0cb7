"""The alerter: looks at the rules, puts into the outbox what is due, and keeps a sender for each destination."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import urllib.request

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from exporter.alerting.delivery import read_destinations
from exporter.alerting.messages import render
from exporter.alerting.outage import Outage
from exporter.alerting.sender import Sender
from opsdb.alerts.incidents import Draft, Report, prune, write_messages
from opsdb.alerts.outbox import forget_others
from opsdb.alerts.read import overdue_messages
from opsdb.alerts.rules import apply_rules
from opsdb.alerts.thresholds import parse_thresholds
from opsdb.database import GONE, connect, first_line
from opsdb.errors import OpsError
from opsdb.settings import Settings, load_settings

log = logging.getLogger(__name__)

CYCLE_SECONDS = 1.0
LOOK_EVERY = 5
"""Cycles between two looks at the rules. What the sweeper found is told in each cycle."""
PRUNE_EVERY = 3600
DEADMAN_SECONDS = 60.0
ALERTER = 0x0A1E7
"""The lock of the one alerter that tells; more of them only share the deliveries."""


class Alerter:
    """Raises UsageError when OPS_ALERT_URLS or OPS_ALERT_THRESHOLDS cannot be read. Nothing connects before `run`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._destinations = read_destinations(settings)
        self._thresholds = parse_thresholds(settings.alert_thresholds)
        self._outage = Outage(settings.home / "alerter-outage.json")
        self._healthy_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Watch and tell until `stop` is set. Outages of the database or of a destination are waited out."""
        engine = connect(self._settings, application="alerter", statement_seconds=10)
        threads = [
            threading.Thread(target=Sender(engine, one, self._outage).run, args=(stop,), name=f"alerts to {one.name}")
            for one in self._destinations
        ]
        if self._settings.deadman_url is not None:
            threads.append(threading.Thread(target=self._signal, args=(stop,), name="alerts deadman"))
        for thread in threads:
            thread.daemon = True
            thread.start()
        try:
            self._watch(engine, stop)
        finally:
            for thread in threads:
                thread.join(20)
            engine.dispose()

    def _watch(self, engine: Engine, stop: threading.Event) -> None:
        cycle, said = 0, False
        while not stop.is_set():
            try:
                self._cycle(engine, cycle)
                self._outage.note(answers=True)
                cycle, said = cycle + 1, False
            except DBAPIError as error:
                if isinstance(error, GONE):
                    self._outage.note(answers=False)
                if not said:
                    log.warning("alerter: the ops database: %s", first_line(error))
                said = True
            except Exception:
                log.exception("alerter: an error of ours; going on")
            stop.wait(CYCLE_SECONDS)

    def _cycle(self, engine: Engine, cycle: int) -> None:
        with engine.begin() as db:
            if not db.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": ALERTER}):
                return
            if cycle == 0:
                forget_others(db, [one.name for one in self._destinations])
            if cycle % LOOK_EVERY == 0:
                self._look(db)
            write_messages(db, self._write, anybody=bool(self._destinations))
            if cycle % PRUNE_EVERY == 0:
                prune(db)
            if not overdue_messages(db):
                self._healthy_at = time.monotonic()

    def _look(self, db: Connection) -> None:
        """A rule that fails keeps nobody from hearing what the sweeper found."""
        try:
            with db.begin_nested():
                apply_rules(db, self._thresholds)
        except DBAPIError as error:
            if isinstance(error, GONE):
                raise
            log.warning("alerter: the rules could not be looked at: %s", first_line(error))

    def _write(self, report: Report) -> Draft:
        severity = report.incident.rule.severity
        wanting = [one.name for one in self._destinations if one.wants(severity, report.kinds)]
        return Draft(body=render(report, ui_url=self._settings.ui_address), destinations=wanting)

    def _signal(self, stop: threading.Event) -> None:
        """Say to somebody outside that we live and that our messages arrive; they miss us when that ends."""
        url = self._settings.deadman_url
        while url is not None and not stop.is_set():
            if self._healthy_at and time.monotonic() - self._healthy_at < DEADMAN_SECONDS:
                say_alive(url.get_secret_value())
                stop.wait(DEADMAN_SECONDS)
            stop.wait(CYCLE_SECONDS)


def say_alive(url: str) -> bool:
    """Ask for an address once. Returns whether it answered; logs neither it nor what it said."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # http or https: the setting is checked
            return bool(200 <= answer.status < 300)
    except (OSError, ValueError) as error:
        log.warning("dead-man's signal: %s", type(error).__name__)
        return False


def main() -> None:
    """Run until SIGTERM, SIGINT, or the end of standard input. Errors are one line and an exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        alerter = Alerter(load_settings())
    except OpsError as error:
        print(f"ops: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    threading.Thread(target=_stop_at_end_of_input, args=(stop,), name="stdin", daemon=True).start()
    alerter.run(stop)


def _stop_at_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock, held here, would abort the interpreter's exit
        pass
    stop.set()


if __name__ == "__main__":
    main()
