"""Apprise's log: nothing of it is shown, since it holds tokens, and what it alone says of a failure is kept."""

from __future__ import annotations

import logging
import re
import sys
import threading

from exporter.alerting.reasons import failure_of
from opsdb.alerts.outbox import Failure

APPRISE_STATUS = re.compile(r"error=(\d{3})\b")
REFUSED = "SMTP recipient"


class _Capture(logging.Filter):
    """Lets nothing through, and keeps what Apprise says nowhere but in its log, per thread: the HTTP status, the error
    that it handles at that moment, and that a recipient was refused."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        if match := APPRISE_STATUS.search(record.getMessage()):
            self.seen.status = int(match[1])
        if (error := sys.exc_info()[1]) is not None:
            self.seen.failure = failure_of(error)
        elif str(record.msg).startswith(REFUSED):
            self.seen.failure = Failure(reason="recipient", lasting=True)
        return False


capture = _Capture()


def _keep_apprise_quiet() -> None:
    """Apprise's log holds tokens, and the log of what most of its notifiers use the path of each request.

    The errors of mail are in its log of details alone; so all of it is captured, and nothing is shown.
    """
    apprise = logging.getLogger("apprise")
    apprise.setLevel(logging.DEBUG)
    apprise.addFilter(capture)
    logging.getLogger("urllib3.connectionpool").addFilter(_above_debug)


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


_keep_apprise_quiet()  # before anything can log there
