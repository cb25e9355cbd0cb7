"""Logins and servers that are reached, refused, or silent."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from opsdb.settings import Settings

PASSWORD = "c0rrect-h@rse/battery"
_numbers = itertools.count()


@pytest.fixture
def admin(settings: Settings) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser in the room's database, in autocommit."""
    with psycopg.connect(settings.ops_url, autocommit=True) as db:
        yield db


@pytest.fixture
def login(admin: psycopg.Connection[tuple[object, ...]]) -> Iterator[str]:
    """A new login that the server asks for `PASSWORD`."""
    name = f"login_{next(_numbers)}"
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    row = admin.execute("SHOW hba_file").fetchone()
    assert row is not None
    file = Path(str(row[0]))
    before = file.read_text()
    file.write_text(f"local all {name} scram-sha-256\n{before}")
    admin.execute("SELECT pg_reload_conf()")
    yield name
    file.write_text(before)
    admin.execute("SELECT pg_reload_conf()")
    admin.execute(f"DROP OWNED BY {name}")
    admin.execute(f"DROP ROLE {name}")


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for one in taken:
                one.close()
