"""Clients that connect to Prefect's server and do not ask, many at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from deployments.server import protocol
from deployments.server.protocol import WAITING, TimelyProtocol
from tests.support.children import free_port
from tests.support.slow_clients import BEHAVIOURS, Behaviour, slow_clients, trickling, unfinished
from tests.support.waiting import wait_for


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"here"})


@pytest.fixture
def port() -> Iterator[int]:
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=port, http=TimelyProtocol, lifespan="off", log_config=None, timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join()


def held(port: int) -> int:
    """How many connections the server keeps."""
    return sum(
        1
        for connection in psutil.Process().net_connections("tcp")
        if connection.laddr.port == port and connection.status != "LISTEN" and connection.fd != -1
    )


@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_crowd_that_does_not_ask_is_bounded_and_in_nobodys_way(port: int, behave: Behaviour) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as lasting:
        assert lasting.get("/").text == "here"
        with slow_clients(port, behave, count=2 * WAITING):
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=20, trust_env=False).text == "here"
            assert held(port) <= WAITING + 1
            assert lasting.get("/").text == "here"


def test_client_is_sent_away_after_its_time_though_it_trickles(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.5)
    with slow_clients(port, unfinished, count=1) as crowd, trickling(crowd, every_seconds=0.05):
        wait_for(lambda: held(port) == 1, seconds=20, what="it is taken")
        wait_for(lambda: held(port) == 0, seconds=20, what="it is sent away")


def test_connection_serves_request_after_request(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.5)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as http:
        assert all(http.get("/").text == "here" for _ in range(50))
    wait_for(lambda: not TimelyProtocol._waiting, seconds=20, what="nobody is waited for")
