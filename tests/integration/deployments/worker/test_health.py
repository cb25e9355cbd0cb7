"""`/health` over HTTP, with a PostgreSQL that answers, hangs (SIGSTOP) and is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from pydantic import SecretStr

from deployments.worker import health
from deployments.worker.health import HealthServer
from opsdb.database import connect
from opsdb.settings import Settings
from tests.support.children import free_port
from tests.support.slow_clients import idle, slow_clients
from tests.support.waiting import stopped, wait_for


@pytest.fixture
def address(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(health, "MEMORY_LIMIT_BYTES", 2**40)  # this process is no worker: it has executed other tests
    port = free_port()
    engine = connect(settings, application="test", statement_seconds=2)
    with HealthServer(engine, port=port, worker_id="host-1"):
        yield f"http://127.0.0.1:{port}"
    engine.dispose()


def ask(address: str) -> tuple[int, Any]:
    with httpx.Client(timeout=5) as client:
        began = time.monotonic()
        answer = client.get(f"{address}/health")
        assert time.monotonic() - began < 4  # of a database that hangs it waits for 0.6 s
    return answer.status_code, answer.json()


def test_health_is_200_with_the_fields_of_the_seed(address: str) -> None:
    status, body = ask(address)
    assert status == 200
    assert set(body) == {"status", "uptime", "memory", "worker_id"}
    assert set(body["memory"]) == {"heapUsed", "heapTotal"}
    assert (body["status"], body["worker_id"]) == ("ok", "host-1")
    assert httpx.get(f"{address}/elsewhere", timeout=5).status_code == 404


def test_health_is_degraded_when_the_worker_is_large(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MEMORY_LIMIT_BYTES", 1)
    status, body = ask(address)
    assert (status, body["status"]) == (503, "degraded")


def test_health_answers_while_the_database_hangs_and_recovers_with_it(address: str, settings: Settings) -> None:
    assert ask(address)[0] == 200
    postmaster = _postmaster(settings)
    pids = [postmaster, *(child.pid for child in psutil.Process(postmaster).children())]
    with stopped(pids):
        for _ in range(3):
            status, body = ask(address)
            assert (status, body["status"]) == (503, "unhealthy")
            assert "did not answer" in body["error"] or "silent" in body["error"]
        time.sleep(5)  # longer than the client waits: the check gives up, and is asked again
        assert ask(address)[0] == 503
    wait_for(lambda: ask(address)[0] == 200, seconds=30, what="it recovers with the database")


def test_crowd_of_slow_clients_neither_makes_health_deaf_nor_costs_threads(address: str) -> None:
    before = threading.active_count()
    with slow_clients(httpx.URL(address).port or 0, idle, count=200):
        assert ask(address)[0] == 200
        assert threading.active_count() - before < 10


def test_health_is_for_known_hosts(address: str) -> None:
    answer = httpx.get(f"{address}/health", headers={"Host": "evil.example"}, timeout=5)
    assert answer.status_code == 421
    assert "OPS_ALLOWED_HOSTS" in answer.text


def test_health_names_the_error_when_the_database_is_away() -> None:
    port = free_port()
    nowhere = Settings(database_url=SecretStr("postgresql://postgres@/ops?host=/tmp/nowhere"))
    with HealthServer(connect(nowhere, application="test"), port=port, worker_id="w"):
        status, body = ask(f"http://127.0.0.1:{port}")
    assert (status, body["status"]) == (503, "unhealthy")
    assert "No such file" in body["error"]


def _postmaster(settings: Settings) -> int:
    """The pid of the server behind the settings, as its socket's lock file has it."""
    with psycopg.connect(settings.ops_url) as db:
        row = db.execute("SHOW unix_socket_directories").fetchone()
    assert row is not None
    with Path(row[0], ".s.PGSQL.5432.lock").open() as file:
        return int(file.readline())
