"""A proxy before Prefect's server that has one request wait, or lets its answer wait or be lost."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.support.tcp_proxy import TcpProxy

Fate = Literal["request held", "answer held", "answer lost"]


@dataclass
class RequestProxy(TcpProxy):
    """The first request that holds `mark` meets its fate; all others pass, also its repetition.

    `reached` is set when it has come to its fate: an answer that is held or lost was given, so what was asked is done.
    What is held passes when `go_on` is set.
    """

    mark: bytes = b""
    fate: Fate = "answer lost"
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    _marked: socket.socket | None = None

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        super().__exit__()

    def _passing(self, data: bytes, client: socket.socket, *, from_client: bool) -> bytes:
        if from_client and not self.reached.is_set() and self.mark in data:
            self._marked = client  # a request is sent again on another connection if the server had closed the idle one
            if self.fate == "request held":
                self._hold()
        elif not from_client and client is self._marked and not self.reached.is_set():
            if self.fate == "answer lost":
                self.reached.set()
                raise ConnectionResetError
            self._hold()
        return data

    def _hold(self) -> None:
        self.reached.set()
        self.go_on.wait()
