"""Delivers to one destination what the outbox holds for it, so that one that hangs keeps back no other."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from exporter.alerting.destinations import Destination
from exporter.alerting.outage import Outage
from opsdb.alerts.episodes import Severity
from opsdb.alerts.outbox import Failure, lease, note_delivered, note_failed, wait_seconds

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class Sender:
    """One destination's deliveries. Killed between any two steps, the next sender continues from there."""

    def __init__(self, engine: Engine, destination: Destination, outage: Outage) -> None:
        self._engine = engine
        self._destination = destination
        self._outage = outage
        self._attempts = 0
        self._wait_until = 0.0

    def run(self, stop: threading.Event) -> None:
        """Deliver until stopped. What is being sent then is sent to its end."""
        while not stop.is_set():
            try:
                busy = self._send_outage() or self.deliver_one()
            except DBAPIError:
                busy = False  # the alerter says so
            except Exception:
                log.exception("alerts to %s: internal error; continuing", self._destination.name)
                busy = False
            if not busy:
                stop.wait(POLL_SECONDS)

    def deliver_one(self) -> bool:
        """Send the next message that is due. False without one. Raises DBAPIError."""
        with self._engine.begin() as db:
            leased = lease(db, destination=self._destination.name)
        if leased is None:
            return False
        failure = self._destination.send(leased.message)  # outside any transaction
        with self._engine.begin() as db:
            if failure is None:
                note_delivered(db, leased)
                dead = False
            else:
                dead = note_failed(db, leased, failure)
        what = f"alert {leased.incident_id}, message {leased.message_id}"
        if failure is None:
            log.info("%s delivered to %s", what, self._destination.name)
        else:
            log.warning("%s not delivered to %s: %s", what, self._destination.name, _words(failure))
        if dead:
            log.error("%s is given up for %s: `ops alerts` lists it", what, self._destination.name)
        return True

    def _send_outage(self) -> bool:
        """Report an outage of the database itself, past the outbox. False when there is nothing to report now."""
        if Severity.CRITICAL not in (self._destination.severities or Severity) or time.monotonic() < self._wait_until:
            return False
        message = self._outage.message(self._destination.name)
        if message is None:
            return False
        failure = self._destination.send(message)
        if failure is None:
            self._outage.note_told(self._destination.name, message)
            self._attempts = 0
            return True
        self._attempts += 1
        self._wait_until = time.monotonic() + wait_seconds(self._attempts, failure)
        log.warning("outage not reported to %s: %s", self._destination.name, _words(failure))
        return False


def _words(failure: Failure) -> str:
    status = f", HTTP {failure.http_status}" if failure.http_status else ""
    wait = f", asked to wait {failure.retry_after_seconds:g} s" if failure.retry_after_seconds else ""
    return f"{failure.reason.replace('_', ' ')}{status}{wait}"
