"""One log line for many events of a kind."""

from __future__ import annotations

import time
from collections.abc import Callable

QUIET_SECONDS = 60.0


class Burst:
    """Says which event begins a burst: the first one, and each that comes more than a minute after the last said."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at: float | None = None

    def begins(self) -> bool:
        """Note an event. Returns whether it deserves a line."""
        now = self._clock()
        if self._said_at is not None and now - self._said_at < QUIET_SECONDS:
            return False
        self._said_at = now
        return True
