"""A process of the room that works until a signal: what `ops exporter` and `ops alerter` become.

Neither imports Prefect or the command line, which would take 30 MB more.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

from opsdb.errors import OpsError
from opsdb.own_loggers import log_at_info
from opsdb.settings import Settings, load_settings
from opsdb.standard_streams import make_unfailing
from opsdb.start_signal import await_start

Work = Callable[[Settings, threading.Event], None]


def work_until_signal(work: Work) -> None:
    """Call `work` with an event that SIGTERM, SIGINT and SIGHUP set. Errors are one line and an exit code."""
    make_unfailing()
    log_at_info()
    await_start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        work(load_settings(), stop)
    except OpsError as error:
        print(f"ops: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
