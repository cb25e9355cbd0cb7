"""Whether a server still answers, asked without waiting: the supervisor has one thread for all parts."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

ASKS = 3
CONNECT_SECONDS = 0.2
PROMPT_SECONDS = 1.5


class Pulse:
    """Asks a server over HTTP, again and again, for a path that needs nothing but the server's own process.

    Any answer is a sign of life, a refusal or a closed connection as well: a process that hangs gives none.
    """

    def __init__(
        self, address: tuple[str, int], path: str, *, seconds: float, excused: Callable[[], bool] = lambda: False
    ) -> None:
        """A server that answers none of three requests within `seconds` is silent, unless it is `excused` then."""
        self._address = address
        self._request = f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: close\r\n\r\n".encode()
        self._seconds = seconds
        self._excused = excused
        self._started: datetime | None = None
        self._answered = False
        self._asked: list[tuple[float, socket.socket | None]] = []
        self._ask_at = 0.0

    def prompt(self, started: datetime) -> bool:
        """Whether the process that was started then has answered, and leaves no request waiting for 1.5 s."""
        self._look(started)
        return self._answered and not (self._asked and time.monotonic() - self._asked[0][0] > PROMPT_SECONDS)

    def fault(self, started: datetime) -> str | None:
        """What is wrong with the process that was started then; None before its first answer."""
        self._look(started)
        if not self._answered or len(self._asked) < ASKS or time.monotonic() < self._ask_at:
            return None
        self._forget()
        return None if self._excused() else f"did not answer for {self._seconds:g} s"

    def _look(self, started: datetime) -> None:
        """Take what was answered; ask once more when it is time."""
        if started != self._started:
            self._started, self._answered, self._ask_at = started, False, 0.0
            self._forget()
        now = time.monotonic()
        waiting = [one for _, one in self._asked if one is not None]
        if waiting and select.select(waiting, [], [], 0)[0]:
            self._answered = True
            self._forget()
        if now >= self._ask_at and len(self._asked) < ASKS:
            self._ask_at = now + self._seconds / ASKS
            connection = self._ask()
            if connection is not None or self._answered:  # before its first answer it need not listen yet
                self._asked.append((now, connection))

    def _ask(self) -> socket.socket | None:
        with suppress(OSError):
            connection = socket.create_connection(self._address, CONNECT_SECONDS)
            try:
                connection.sendall(self._request)
            except OSError:
                connection.close()
                raise
            return connection
        return None

    def _forget(self) -> None:
        for _, connection in self._asked:
            if connection is not None:
                connection.close()
        self._asked.clear()
