"""The alerter: looks at the rules, puts into the outbox what is due, and keeps a sender for each destination."""

from __future__ import annotations

import fcntl
import http.client
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from exporter.alerting.authorities import read_authorities, trusting
from exporter.alerting.destinations import reach
from exporter.alerting.links import links_of
from exporter.alerting.messages import render
from exporter.alerting.outage import Outage
from exporter.alerting.outlook import read_outlook
from exporter.alerting.reasons import failure_of
from exporter.alerting.routes import read_orders
from exporter.alerting.sender import Sender
from opsdb.alerts.incidents import Draft, prune, write_messages
from opsdb.alerts.outbox import forget_others
from opsdb.alerts.read import overdue_messages
from opsdb.alerts.report import Report
from opsdb.alerts.rules import apply_rules
from opsdb.database import GONE, connect, first_line
from opsdb.kinds.kind_names import remember_kinds
from opsdb.room_locks import Lock, try_lock
from opsdb.settings import Settings

log = logging.getLogger(__name__)

CYCLE_SECONDS = 1.0
LOOK_EVERY = 5
"""Cycles between two looks at the rules. What the sweeper found is reported in each cycle."""
PRUNE_EVERY = 3600
DEADMAN_SECONDS = 60.0


class Alerter:
    """Raises UsageError when OPS_ALERT_URLS, OPS_ALERT_THRESHOLDS or OPS_ALERT_CA_FILE cannot be read.

    Nothing connects before `run`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        read_authorities(settings.alert_ca_file)
        orders = read_orders(settings)
        self._destinations = reach(settings, orders.routes)
        self._thresholds = orders.thresholds
        self._gone = orders.gone
        for kind in self._gone:
            log.warning("alerts are ordered of the runbook %s, which is not here any more", kind)
        self._healthy_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Watch and deliver until `stop` is set. Outages of the database or of a destination are waited out.

        Only one alerter of an OPS_HOME works; this one waits until another has ended.
        """
        with only_alerter(self._settings.home, stop):
            if not stop.is_set():
                remember_kinds(self._settings, gone=self._gone)
                with trusting(self._settings):
                    self._work(stop)

    def _work(self, stop: threading.Event) -> None:
        engine = connect(self._settings, application="alerter", statement_seconds=10)
        outage = Outage(self._settings.home / "alerter-outage.json")
        names = ", ".join(one.name for one in self._destinations)
        log.info("alerts go to %s", names or "nobody: OPS_ALERT_URLS is not set")
        threads = [
            threading.Thread(target=Sender(engine, one, outage).run, args=(stop,), name=f"alerts to {one.name}")
            for one in self._destinations
        ]
        if self._settings.deadman_url is not None:
            threads.append(threading.Thread(target=self._send_signs_of_life, args=(stop,), name="alerts deadman"))
        for thread in threads:
            thread.daemon = True
            thread.start()
        try:
            self._watch(engine, outage, stop)
        finally:
            for thread in threads:
                thread.join(20)
            engine.dispose()

    def _watch(self, engine: Engine, outage: Outage, stop: threading.Event) -> None:
        cycle, said = 0, False
        while not stop.is_set():
            try:
                self._cycle(engine, cycle)
                outage.note(answers=True)
                cycle, said = cycle + 1, False
            except DBAPIError as error:
                if isinstance(error, GONE):
                    outage.note(answers=False)
                if not said:
                    log.warning("alerter: the ops database: %s", first_line(error))
                said = True
            except Exception:
                log.exception("alerter: internal error; continuing")
            stop.wait(CYCLE_SECONDS)

    def _cycle(self, engine: Engine, cycle: int) -> None:
        with engine.begin() as db:
            if not try_lock(db, Lock.ALERTER):
                return  # the alerters of several hosts take turns, and share the deliveries
            if cycle == 0:
                forget_others(db, [one.name for one in self._destinations])
            if cycle % LOOK_EVERY == 0:
                self._look_at_rules(db)
            write_messages(db, self._write_message, anybody=bool(self._destinations))
            if cycle % PRUNE_EVERY == 0:
                prune(db)
            if not overdue_messages(db):
                self._healthy_at = time.monotonic()

    def _look_at_rules(self, db: Connection) -> None:
        """A rule that fails keeps nobody from hearing what the sweeper found."""
        try:
            with db.begin_nested():
                apply_rules(db, self._thresholds)
        except DBAPIError as error:
            if isinstance(error, GONE):
                raise
            log.warning("alerter: the rules could not be looked at: %s", first_line(error))

    def _write_message(self, db: Connection, report: Report) -> Draft:
        severity = report.incident.rule.severity
        wanting = [one.name for one in self._destinations if one.wants(severity, report.kinds)]
        message = render(report, links=links_of(self._settings), outlook=read_outlook(db, report))
        return Draft(message=message, destinations=wanting)

    def _send_signs_of_life(self, stop: threading.Event) -> None:
        """Ask for OPS_DEADMAN_URL while alerts work and messages arrive: its service warns when that ends."""
        url = self._settings.deadman_url
        while url is not None and not stop.is_set():
            if self._healthy_at and time.monotonic() - self._healthy_at < DEADMAN_SECONDS:
                send_sign_of_life(url.get_secret_value())
                stop.wait(DEADMAN_SECONDS)
            stop.wait(CYCLE_SECONDS)


@contextmanager
def only_alerter(home: Path, stop: threading.Event) -> Iterator[None]:
    """Be the one alerter of this OPS_HOME; waits for another one's end, or for `stop`.

    Without this, two would each report an outage of the database, and one that was started without OPS_ALERT_URLS
    would close what the other should report as resolved. The kernel gives the lock back when the process ends.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "alerter.lock").open("a") as file:
        waiting = False
        while not stop.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    log.warning("another alerter works in %s: this one begins when that one ends", home)
                waiting = True
                stop.wait(CYCLE_SECONDS)
        yield


def send_sign_of_life(url: str) -> bool:
    """Ask for an address once. Returns whether it answered; logs neither it nor what it said."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # http or https: the setting is checked
            return bool(200 <= answer.status < 300)
    except urllib.error.HTTPError as error:
        log.warning("dead-man's signal: HTTP %d", error.code)
        return False
    except (OSError, http.client.HTTPException, ValueError) as error:
        log.warning("dead-man's signal: %s", failure_of(error).reason.replace("_", " "))
        return False
