"""What the room's three ports answer to those who do not belong there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
import pytest

from opsdb.web.guesses import FROM_ONE
from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.slow_clients import deaf, idle, slow_clients, unfinished

PATHS = ("/api/health", "/health", "/-/ready")
"""One of each port that needs no password."""


def ask(port: int, path: str, host: str = "127.0.0.1") -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host}, timeout=20, trust_env=False)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_port_answers_to_known_names_only(desk: Desk, number: int) -> None:
    port, path = desk.ports[number], PATHS[number]
    assert ask(port, path, f"localhost:{port}").status_code == 200
    answer = ask(port, path, f"evil.example:{port}")
    assert answer.status_code == 421
    assert "OPS_ALLOWED_HOSTS" in answer.text


@pytest.mark.parametrize("number", [0, 1, 2])
def test_port_answers_while_slow_clients_crowd_it(desk: Desk, number: int) -> None:
    port, path = desk.ports[number], PATHS[number]
    for behave in (idle, unfinished, deaf):
        with slow_clients(port, behave, count=300):
            assert ask(port, path).status_code == 200


def test_no_page_of_prefect_loads_foreign_scripts(desk: Desk) -> None:
    port = desk.ports[0]
    for page in ("/docs", "/redoc", "/openapi.json"):
        assert [ask(port, f"{prefix}{page}").status_code for prefix in ("", "/api")] == [404, 404]
    policy = ask(port, "/v2/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert httpx.get(f"http://127.0.0.1:{port}/ui-settings", trust_env=False).json()["api_url"] == "/api"


def test_room_works_while_somebody_guesses_at_full_speed(desk: Desk, api: Api) -> None:
    numbers, over = count(), threading.Event()

    def guess() -> list[int]:
        seen = []
        with httpx.Client(base_url=f"http://127.0.0.1:{desk.ports[0]}", timeout=20, trust_env=False) as http:
            while not over.is_set():
                seen.append(http.get("/api/admin/version", auth=("ops", str(next(numbers)))).status_code)
        return seen

    with ThreadPoolExecutor(2) as pool:
        guessing = [pool.submit(guess) for _ in range(2)]
        try:
            assert api.get("/admin/version")
            run = desk.run("disk_space", "-p", "folder=/dev/shm", "-p", "most_percent=100")
        finally:
            over.set()
        seen = [status for guess in guessing for status in guess.result()]
    assert run["status"] == "succeeded", run
    assert set(seen) == {401, 429}
    assert seen.count(401) < seen.count(429)
    assert seen.count(401) >= FROM_ONE
