"""The room behind a real nginx, with the configuration of docs/prefect-ui.md: below a path and without one."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

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
from tests.support.documents import FENCE, ROOT
from tests.support.programs import program

PASSWORD = "ops:" + "p" * 43
BASIC = {"Authorization": f"Basic {base64.b64encode(PASSWORD.encode()).decode()}"}
NAME = "ops.example.org"


@pytest.fixture(scope="module", params=["", "/room"], ids=["at its root", "below a path"])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    """Prefect's own app behind the guard, and the path of its address."""
    from prefect.server.api.server import create_app  # takes seconds

    settings = Settings(server_url=f"http://{NAME}{request.param}")
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
    behind = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=behind, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=copy_context().run, args=[server.run])
    thread.start()
    try:
        with nginx(tmp_path_factory.mktemp("nginx"), path=path, behind=behind) as found:
            yield found
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def nginx(folder: Path, *, path: str, behind: int) -> Iterator[int]:
    """A server of nginx's with the block of the document, on a port without TLS."""
    block = next(
        text for language, text in FENCE.findall((ROOT / "docs/prefect-ui.md").read_text()) if language == "nginx"
    )
    port = free_port()
    block = (
        re.sub(r"\n *ssl_\w+ [^\n]*", "", block).replace("443 ssl", f"127.0.0.1:{port}").replace("4200", str(behind))
    )
    if path:
        assert "location / {" in block
        block = block.replace("location / {", f"location {path}/ {{")
    ways = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off; {ways}\n{block}}}\n"
    )
    command = [program("nginx", package="nginx-light"), "-c", str(folder / "conf"), "-e", str(folder / "log")]
    with subprocess.Popen(command) as process:
        try:
            until = time.monotonic() + 20
            while not (folder / "pid").exists() and time.monotonic() < until:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


def get(port: int, path: str, *, host: str = NAME, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host, **headers}, timeout=20, trust_env=False)


def test_browser_is_led_to_the_page_whose_scripts_and_api_are_there(port: int, room: tuple[App, str]) -> None:
    _, path = room
    led = get(port, f"{path}/", Accept="text/html")
    assert (led.status_code, httpx.URL(led.headers["Location"]).path) == (307, f"{path}/v2/")
    page = get(port, f"{path}/v2/runs/flow-run/x", Accept="text/html")
    scripts = re.findall(r'<script[^>]+src="([^"]+)"', page.text)
    assert scripts
    for script in scripts:
        assert get(port, script).headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
    api = get(port, f"{path}/ui-settings").json()["api_url"]
    assert get(port, f"{api}/health").text == "true"


def test_client_elsewhere_reaches_the_api_with_the_password_alone(port: int, room: tuple[App, str]) -> None:
    _, path = room
    assert get(port, f"{path}/api/admin/version").status_code == 401
    assert get(port, f"{path}/api/admin/version", **BASIC).status_code == 200
    assert get(port, f"{path}/api/docs", **BASIC).status_code == 404


def test_web_socket_is_opened_through_it(port: int, room: tuple[App, str]) -> None:
    _, path = room
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
        connect(
            f"ws://{NAME}:{port}{path}/api/events/out",
            sock=client,
            subprotocols=[Subprotocol("prefect")],
            origin=Origin(f"http://{NAME}"),
            close_timeout=1,
        ) as opened,
    ):
        opened.send(json.dumps({"type": "auth", "token": PASSWORD}))
        assert "auth_success" in str(opened.recv(20))


def test_name_that_the_room_does_not_know_is_refused(port: int, room: tuple[App, str]) -> None:
    answer = get(port, f"{room[1]}/api/health", host="evil.example.net")
    assert answer.status_code == 421
