"""Databases that are renamed and copied while others work in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import psycopg
import pytest

from flows.odoo import aside, copying
from flows.odoo.aside import name_before, swap_databases
from flows.odoo.copying import copy_database
from tests.support.postgres import databases

CLIENTS = 4


@contextmanager
def coming_back(url: str) -> Iterator[None]:
    """Clients that connect again as soon as they were ended, as the web workers of an Odoo that somebody started."""
    over, connected = threading.Event(), threading.Semaphore(0)

    def come_back() -> None:
        while not over.is_set():
            with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as db:
                connected.release()
                while not over.is_set():
                    db.execute("SELECT pg_sleep(0.01)")

    clients = [threading.Thread(target=come_back) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        assert all(connected.acquire(timeout=20) for _ in clients)
        yield
    finally:
        over.set()
        for client in clients:
            client.join()


def test_databases_are_swapped_under_clients_that_connect_again_and_again(
    database: str, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "_RENAME_SECONDS", 5)
    url, incoming, broken = postgres.format(database=database), f"{database}_before", f"{database}_broken"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{incoming}" TEMPLATE "{database}"'.encode())
    with psycopg.connect(postgres.format(database=incoming)) as db:
        db.execute("CREATE TABLE of_before (id int)")
    with coming_back(url):
        swap_databases(url, database, incoming=incoming, aside=broken, comment="broken")
        with psycopg.connect(url) as db:
            assert db.execute("SELECT to_regclass('of_before') IS NOT NULL").fetchone() == (True,)
    assert {database, broken} <= databases(postgres)
    assert incoming not in databases(postgres)


def test_database_is_copied_under_clients_that_connect_again_and_again(
    database: str, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_ALONE_SECONDS", 5)
    url, upgrade = postgres.format(database=database), uuid4()
    with coming_back(url):
        copy_database(url, database, upgrade)
    assert name_before(upgrade) in databases(postgres)
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        aside.drop(db, name_before(upgrade))
