"""Cancels the statements of a pass when it has to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import Engine, event

LOOK_SECONDS = 0.2
ANSWER_SECONDS = 2.0


@contextmanager
def cancelled_by(stop: threading.Event, *engines: Engine) -> Iterator[None]:
    """From when `stop` is set until the block ends, cancel each statement of the engines, which must be fresh ones.

    What is cancelled raises OperationalError, and its transaction is undone.
    """
    connections: list[psycopg.Connection[Any]] = []
    over = threading.Event()

    def remember(connection: psycopg.Connection[Any], _record: object) -> None:
        connections.append(connection)

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if stop.is_set():
                for one in list(connections):
                    with suppress(psycopg.Error):  # it is closed, or the server is away
                        one.cancel_safe(timeout=ANSWER_SECONDS)

    for engine in engines:
        event.listen(engine, "connect", remember)
    watcher = threading.Thread(target=watch, name="prune-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
