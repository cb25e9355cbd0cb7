"""uvicorn's HTTP protocol, with a limit on clients that connect and do not ask.

uvicorn lets them wait for ever, each with a descriptor of the server: when none is left, nobody is answered.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""How long a client may take to send the head of a request."""
WAITING = 256
"""How many may be without a whole one; one more, and the one that has taken longest is sent away."""


class TimelyProtocol(H11Protocol):
    """One connection. Give the class to `uvicorn.Config(http=...)`."""

    _waiting: dict[TimelyProtocol, asyncio.TimerHandle] = {}  # noqa: RUF012  # of all connections, longest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Wait no more when a request has begun to be answered."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: object) -> None:
        """Leave the connection to the protocol of WebSockets."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)  # type: ignore[arg-type]  # an h11.Request

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting[self] = self.loop.call_later(REQUEST_SECONDS, self._send_away)
        if len(self._waiting) > WAITING:
            next(iter(self._waiting))._send_away()

    def _stop_waiting(self) -> None:
        timer = self._waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _send_away(self) -> None:
        self._stop_waiting()
        self.transport.abort()
