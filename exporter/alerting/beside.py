"""The alerter in a process of its own beside the exporter: with its libraries one process would hold twice as much.

The two live and die together. It ends when its standard input does, so that even a killed exporter leaves none behind.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opsdb.errors import OpsError

STOP_SECONDS = 20.0
"""How long a delivery that is under way may take."""
USAGE_EXIT_CODE = 2


@contextmanager
def alerter_beside(stopped: threading.Event) -> Iterator[None]:
    """Run the alerter for the length of the block. Its end by itself sets `stopped`, and raises OpsError then."""
    process = subprocess.Popen([sys.executable, "-m", "exporter.alerting.alerter"], stdin=subprocess.PIPE)
    by_itself = threading.Event()

    def watch() -> None:
        process.wait()
        if not stopped.is_set():
            by_itself.set()
            stopped.set()

    threading.Thread(target=watch, name="ops-alerter", daemon=True).start()
    try:
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if by_itself.is_set() and process.returncode == USAGE_EXIT_CODE:
        raise SystemExit(USAGE_EXIT_CODE)  # it has said what is wrong
    if by_itself.is_set():
        raise OpsError(f"the alerter ended by itself with exit code {process.returncode}: what it said is above")
