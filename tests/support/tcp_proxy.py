"""A proxy before a TCP port that cuts connections, flips a byte, or is slow."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self


@dataclass
class TcpProxy:
    """Use it as a context manager; `port` on 127.0.0.1 leads to `target_port`. Its faults count what a client sends."""

    target_port: int
    port: int = 0
    cut_after: int | None = None
    """Bytes of all connections together, after which each is reset and none is taken."""
    flip_at: int | None = None
    """The byte in which one bit is changed."""
    bytes_per_second: int | None = None
    flip_answers: bool = False
    """Change what comes back instead."""
    passed: int = 0
    _open: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                ours.close()
                continue
            threading.Thread(target=self._pump, args=(ours, theirs), daemon=True).start()

    def _pump(self, ours: socket.socket, theirs: socket.socket) -> None:
        with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
            selector.register(ours, selectors.EVENT_READ)
            selector.register(theirs, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    from_client = key.fileobj is ours
                    data = (ours if from_client else theirs).recv(65536)
                    if not data:
                        raise ConnectionResetError
                    (theirs if from_client else ours).sendall(self._passing(data, ours, from_client=from_client))
        for end in (ours, theirs):
            end.close()

    def _passing(self, data: bytes, _client: socket.socket, *, from_client: bool) -> bytes:
        """What is passed on of what one end of a client's connection sent. ConnectionResetError ends both."""
        return data if from_client is self.flip_answers else self._faulty(data)

    def _faulty(self, data: bytes) -> bytes:
        with self._lock:
            start, self.passed = self.passed, self.passed + len(data)
            if self.cut_after is not None and self.passed > self.cut_after:
                raise ConnectionResetError
            if self.flip_at is not None and start <= self.flip_at < self.passed:
                at = self.flip_at - start
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            if self.bytes_per_second:
                time.sleep(len(data) / self.bytes_per_second)
        return data
