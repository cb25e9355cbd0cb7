"""The alerter as a process of its own, killed where a test says so: `python -m ... [step]`, settings by environment."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from exporter import sender
from exporter.alerter import Alerter
from opsdb import alerts_incidents
from opsdb.settings import load_settings


def die(*_: object, **__: object) -> None:
    """End as by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(step: str) -> None:
    """Die at one step of the outbox."""
    if step == "before the message is stored":
        alerts_incidents.STORE = None  # type: ignore[assignment]
        alerts_incidents._report = die  # type: ignore[assignment]
    elif step == "before it is leased":
        sender.lease = die  # type: ignore[assignment]
    elif step == "leased and not sent":
        sender.Destination.send = die  # type: ignore[assignment,method-assign]
    elif step == "sent and not noted":
        sender.note_delivered = die  # type: ignore[assignment]
    elif step == "stored and not committed":
        original = alerts_incidents.tell

        def tell_and_die(*args: object, **values: object) -> None:
            if original(*args, **values):  # type: ignore[arg-type]
                die()

        import exporter.alerter

        exporter.alerter.tell = tell_and_die  # type: ignore[assignment]
    else:
        raise ValueError(step)


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if len(sys.argv) > 1:
        arrange(sys.argv[1])
    Alerter(load_settings()).run(stop)
