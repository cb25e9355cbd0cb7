"""The alerter as a process of its own, killed where a test says so: `python -m ... [step]`, settings by environment."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from exporter.alerting import alerter, sender
from exporter.alerting.destinations import Destination
from opsdb.alerts import incidents as alerts_incidents
from opsdb.settings import load_settings


def die(*_: object, **__: object) -> bool:
    """End as by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    return True


PLACES = {
    "before the message is stored": (alerts_incidents, "read_report"),
    "before it is leased": (sender, "lease"),
    "leased and not sent": (Destination, "send"),
    "sent and not noted": (sender, "note_delivered"),
}


def arrange(step: str) -> None:
    """Die at one step of the outbox."""
    if step == "stored and not committed":
        write = alerts_incidents.write_messages
        setattr(alerter, "write_messages", lambda *args, **values: write(*args, **values) and die())  # noqa: B010
    else:
        where, name = PLACES[step]
        setattr(where, name, die)


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if len(sys.argv) > 1:
        arrange(sys.argv[1])
    alerter.Alerter(load_settings()).run(stop)
