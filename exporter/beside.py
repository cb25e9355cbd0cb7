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


@contextmanager
def alerter_beside(stopped: threading.Event) -> Iterator[None]:
    """Run the alerter for the length of the block. Its unexpected end sets `stopped`, and raises OpsError then."""
    process = subprocess.Popen([sys.executable, "-m", "exporter.alerter"], stdin=subprocess.PIPE)
    threading.Thread(target=_set_at_end, args=(process, stopped), name="ops-alerter", daemon=True).start()
    try:
        yield
        ended = process.poll()
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if ended:
        raise OpsError(f"the alerter ended with exit code {ended}: what it said is above")


def _set_at_end(process: subprocess.Popen[bytes], stopped: threading.Event) -> None:
    process.wait()
    stopped.set()
