"""Logins and servers that are reached, refused, or silent; stores that refuse parts of S3."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from blocks import checksums
from opsdb.settings import Settings
from tests.support.picky_server import serving
from tests.support.picky_store import PickyStore

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


@pytest.fixture
def serve() -> Iterator[Callable[..., PickyStore]]:
    """Starts a store, see PickyStore."""
    with ExitStack() as servers:
        yield lambda *given, **fields: servers.enter_context(serving(PickyStore(*given, **fields)))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "PART_BYTES", 64 * 1024)
    monkeypatch.setattr(checksums, "_MEBIBYTE", 1)


_session = cache(boto3.session.Session)


@pytest.fixture
def one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are made of one session, in a twentieth of the time."""
    monkeypatch.setattr(boto3.session, "Session", _session)


@pytest.fixture
def names_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in `store.test` is this host."""
    really = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **other: Any) -> Any:
        return really("127.0.0.1" if str(host).endswith("store.test") else host, *more, **other)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
