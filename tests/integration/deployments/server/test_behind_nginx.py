"""The room behind a real nginx, with what `ops render nginx` makes: below a path and without one."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextvars import copy_context

import httpx
import pytest
import uvicorn
from prefect.settings import (
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_CSRF_PROTECTION_ENABLED,
    PREFECT_UI_API_URL,
    PREFECT_UI_SERVE_BASE,
    PREFECT_UI_STATIC_DIRECTORY,
    temporary_settings,
)
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from deployments.server.guard import App, guarded
from opsdb.settings import Settings
from tests.support.children import free_port
from tests.support.web_server import NAME, ask, nginx, site_on_loopback

PASSWORD = "ops:" + "p" * 43
BASIC = {"Authorization": f"Basic {base64.b64encode(PASSWORD.encode()).decode()}"}


@pytest.fixture(scope="module", params=["", "/room"], ids=["at its root", "below a path"])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    """Prefect's own app behind the guard, and the path of its address."""
    from prefect.server.api.server import create_app  # takes seconds

    settings = Settings(server_url=f"https://{NAME}{request.param}")
    levels = {name: logging.getLogger(name).level for name in (*logging.Logger.manager.loggerDict, "root")}
    with temporary_settings(
        {
            PREFECT_SERVER_API_AUTH_STRING: PASSWORD,
            PREFECT_SERVER_CSRF_PROTECTION_ENABLED: True,
            PREFECT_UI_API_URL: f"{settings.server_path}/api",
            PREFECT_UI_SERVE_BASE: settings.server_path or "/",
            PREFECT_UI_STATIC_DIRECTORY: str(tmp_path_factory.mktemp("ui")),
        }
    ):
        app = create_app(final=True, ignore_cache=True)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield guarded(app, settings), settings.server_path


@pytest.fixture(scope="module")
def port(room: tuple[App, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where nginx answers for the room."""
    app, path = room
    behind, before = free_port(), free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=behind, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=copy_context().run, args=[server.run])
    thread.start()
    site = site_on_loopback(port=before, plain_port=free_port(), path=path, prefect_port=behind)
    try:
        with nginx(tmp_path_factory.mktemp("nginx"), site):
            yield before
    finally:
        server.should_exit = True
        thread.join()


def test_browser_is_led_to_the_page_whose_scripts_and_api_are_there(port: int, room: tuple[App, str]) -> None:
    _, path = room
    led = ask(port, f"{path}/", Accept="text/html")
    assert (led.status_code, httpx.URL(led.headers["Location"]).path) == (307, f"{path}/v2/")
    page = ask(port, f"{path}/v2/runs/flow-run/x", Accept="text/html")
    scripts = re.findall(r'<script[^>]+src="([^"]+)"', page.text)
    assert scripts
    for script in scripts:
        assert ask(port, script).headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
    api = ask(port, f"{path}/ui-settings").json()["api_url"]
    assert ask(port, f"{api}/health").text == "true"


def test_client_elsewhere_reaches_the_api_with_the_password_alone(port: int, room: tuple[App, str]) -> None:
    _, path = room
    assert ask(port, f"{path}/api/admin/version").status_code == 401
    assert ask(port, f"{path}/api/admin/version", **BASIC).status_code == 200
    assert ask(port, f"{path}/api/docs", **BASIC).status_code == 404


def test_web_socket_is_opened_through_it(port: int, room: tuple[App, str]) -> None:
    _, path = room
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
        connect(
            f"wss://{NAME}:{port}{path}/api/events/out",
            sock=client,
            ssl=ssl._create_unverified_context(),  # noqa: S323  # the certificate is nobody's
            subprotocols=[Subprotocol("prefect")],
            origin=Origin(f"https://{NAME}"),
            close_timeout=1,
        ) as opened,
    ):
        opened.send(json.dumps({"type": "auth", "token": PASSWORD}))
        assert "auth_success" in str(opened.recv(20))


def test_name_that_the_room_does_not_know_is_refused(port: int, room: tuple[App, str]) -> None:
    answer = ask(port, f"{room[1]}/api/health", host="evil.example.net")
    assert answer.status_code == 421
