"""Logins and servers that are reached, refused, or silent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
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
