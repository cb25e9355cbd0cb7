"""Clients that keep a server waiting, many at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

Behaviour = Callable[[socket.socket], None]


def idle(client: socket.socket) -> None:
    """Say nothing."""


def unfinished(client: socket.socket) -> None:
    """Begin a request."""
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n")


def half_closed(client: socket.socket) -> None:
    """Begin a request, and say that no more comes."""
    unfinished(client)
    client.shutdown(socket.SHUT_WR)


def half_hello(client: socket.socket) -> None:
    """Begin to speak TLS: the first bytes of a ClientHello."""
    client.sendall(bytes.fromhex("160301020001"))


def deaf(client: socket.socket) -> None:
    """Ask, and take no answer."""
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")


BEHAVIOURS = [idle, unfinished, half_closed, half_hello]


@contextmanager
def slow_clients(port: int, behave: Behaviour, *, count: int) -> Iterator[list[socket.socket]]:
    """So many connections to a loopback port, each of which does that and then waits."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with suppress(OSError):  # it was sent away already
                behave(client)
            clients.append(client)
        yield clients


@contextmanager
def trickling(clients: list[socket.socket], *, every_seconds: float) -> Iterator[None]:
    """Let each of them send one byte of a header now and then."""
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(every_seconds):
            for client in clients:
                with suppress(OSError):
                    client.send(b"a")

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
