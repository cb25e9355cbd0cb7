"""What Prefect's server answers to whom, behind the guard: its real app, asked over HTTP and WebSockets."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import httpx
import pytest
import uvicorn
from prefect.settings import (
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_CSRF_PROTECTION_ENABLED,
    PREFECT_UI_STATIC_DIRECTORY,
    temporary_settings,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from deployments.server import guard
from deployments.server.guard import App, guarded
from opsdb.settings import Settings
from opsdb.web.guesses import FROM_ONE
from tests.support.children import free_port

PASSWORD = "ops:" + "p" * 43
SETTINGS = Settings(server_url="https://ops.example.org", allowed_hosts="ops.example.net")


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Prefect's own app, as the room's server makes it; without its database."""
    from prefect.server.api.server import create_app  # takes seconds

    levels = {name: logging.getLogger(name).level for name in (*logging.Logger.manager.loggerDict, "root")}
    with temporary_settings(
        {
            PREFECT_SERVER_API_AUTH_STRING: PASSWORD,
            PREFECT_SERVER_CSRF_PROTECTION_ENABLED: True,
            PREFECT_UI_STATIC_DIRECTORY: str(tmp_path_factory.mktemp("ui")),
        }
    ):
        app = create_app(final=True, ignore_cache=True)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield app


class Server:
    """The guarded app on a port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)

    def raw(self, request: str) -> tuple[int, str]:
        """Status and the rest of the answer to a request as it stands."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(request.encode("latin-1"))
            answer = b""
            while received := client.recv(65536):
                answer += received
        return int(answer.split(b" ", 2)[1]), answer.decode(errors="replace")

    def get(self, path: str, host: str = "127.0.0.1", *more: str) -> tuple[int, str]:
        """The answer to a path exactly as it is spelled."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *more]
        return self.raw("\r\n".join(lines) + "\r\n\r\n")

    def version(self, password: str | None, *, scheme: str = "Basic") -> httpx.Response:
        """Ask something that wants the password and no database."""
        headers = {} if password is None else {"Authorization": basic(password, scheme)}
        return self.http.get("/api/admin/version", headers=headers)

    def web_socket(self, token: str | None, *, host: str | None = None, origin: str | None = None) -> str:
        """What Prefect says to the first message over a WebSocket, or why it was closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            try:
                with connect(
                    f"ws://{host or '127.0.0.1'}:{self.port}/api/events/out",
                    sock=client,
                    subprotocols=[Subprotocol("prefect")],
                    origin=Origin(origin) if origin else None,
                    close_timeout=1,
                ) as opened:
                    opened.send(json.dumps({"type": "auth", "token": token}))
                    return str(opened.recv(20))
            except ConnectionClosed as closed:
                return closed.rcvd.reason if closed.rcvd else ""
            except InvalidStatus as refused:
                return str(refused.response.status_code)


def basic(password: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(password.encode()).decode()}"


@contextmanager
def serving(app: App) -> Iterator[Server]:
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=copy_context().run, args=[server.run])  # Prefect's settings are of a context
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        asked = Server(port)
        yield asked
        asked.http.close()
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def server(prefect: App) -> Iterator[Server]:
    with serving(guarded(prefect, SETTINGS)) as one:
        yield one


FORMS = ["{0}", "{0}/", "/{0}", "{0}//", "{0}?x=1", "{0};x", "/api{0}", "/api{0}/", "/api/{0}", "//api{0}", "/v2{0}"]
DOCS = ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"]
SPELLINGS = [("d", "d"), ("d", "%64"), ("d", "%2564"), ("/", "/%2F"), ("d", "D"), ("/api", "/API")]


def test_pages_that_load_foreign_scripts_are_not_served_however_they_are_spelt(server: Server) -> None:
    for page in DOCS:
        assert server.get(page)[0] == server.get(f"/api{page}")[0] == 404
        for path in {form.format(page).replace(*spelling) for form in FORMS for spelling in SPELLINGS}:
            _, text = server.get(path, "127.0.0.1", f"Authorization: {basic(PASSWORD)}")
            assert not re.search(r'swagger|jsdelivr|redoc\.standalone|"openapi"', text, re.IGNORECASE), path


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:4200", 200),
        ("LocalHost:4200", 200),
        ("localhost.", 200),
        ("[::1]:4200", 200),
        ("ops.example.org", 200),
        ("OPS.example.org:443", 200),
        ("ops.example.net", 200),
        ("evil.example", 421),
        ("evil.example:4200", 421),
        ("127.0.0.1.evil.example", 421),
        ("ops.example.org.evil.example", 421),
        ("10.0.0.5", 421),
        ("", 400),
        ("me@127.0.0.1", 400),
        ("127.0.0.1, evil.example", 400),
        ("127.0.0.1/evil", 400),
    ],
)
@pytest.mark.parametrize("path", ["/api/health", "/"])
def test_only_known_host_names_are_answered(server: Server, path: str, host: str, status: int) -> None:
    answer = server.get(path, host, "X-Forwarded-Host: 127.0.0.1", "Accept: */*")
    assert answer[0] == status
    assert ("OPS_ALLOWED_HOSTS" in answer[1]) is (status == 421)


@pytest.mark.parametrize(
    "head",
    [
        "GET /api/health HTTP/1.1",
        "GET /api/health HTTP/1.0",
        "GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1",
        "GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example",
        "GET http://evil.example/api/health HTTP/1.1\r\nHost: 127.0.0.1",
        "GET http://127.0.0.1/api/health HTTP/1.1\r\nHost: 127.0.0.1",
        "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1",
    ],
)
def test_requests_without_one_plain_host_and_path_are_refused(server: Server, head: str) -> None:
    assert server.raw(f"{head}\r\nConnection: close\r\n\r\n")[0] == 400


def test_every_answer_says_what_a_browser_may_do(server: Server) -> None:
    for path in ("/", "/v2/", "/ui-settings", "/api/health", "/api/admin/version", "/nothing"):
        answer = server.http.get(path, headers={"Accept": "text/html"}, follow_redirects=True)
        parts = [part.split() for part in answer.headers["Content-Security-Policy"].split(";")]
        policy = {words[0]: words[1:] for words in parts}
        assert policy["default-src"] == ["'self'"]
        for name in ("frame-ancestors", "base-uri", "form-action", "object-src"):
            assert policy[name] == ["'none'"]
        assert "'unsafe-inline'" not in policy["script-src"]
        port = server.port
        assert policy["connect-src"] == ["'self'", f"ws://127.0.0.1:{port}", f"wss://127.0.0.1:{port}"]
        foreign = [
            word for words in policy.values() for word in words if "://" in word and f"127.0.0.1:{port}" not in word
        ]
        assert not foreign
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert (answer.headers.get("Cache-Control") == "no-store") is path.startswith("/api/")


def test_pages_of_the_ui_hold_no_script_that_the_policy_forbids(server: Server) -> None:
    for path in ("/v2/", "/runs"):
        page = server.http.get(path, headers={"Accept": "text/html", "Cookie": "prefect_ui_version=v1"}).text
        assert "<script" in page
        assert not re.search(r"<script(?![^>]*\ssrc=\"/)|\son[a-z]+=|javascript:", page)


def test_web_sockets_are_for_known_hosts_and_pages_of_the_room(server: Server) -> None:
    assert "auth_success" in server.web_socket(PASSWORD)
    assert "auth_success" in server.web_socket(PASSWORD, host="localhost", origin="http://localhost:4200")
    assert "auth_success" in server.web_socket(PASSWORD, host="ops.example.org", origin="https://ops.example.org")
    assert server.web_socket(PASSWORD, host="evil.example") == "421"
    for origin in (
        "http://evil.example",
        "https://127.0.0.1.evil.example",
        "null",
        "file://",
        "https://evil@127.0.0.1",
    ):
        assert server.web_socket(PASSWORD, origin=origin) == "403"


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "basic"])
def test_guesses_are_passed_on_so_often_and_never_hinder_the_right_password(server: Server, scheme: str) -> None:
    statuses = []
    for number in range(3 * FROM_ONE):
        statuses.append(server.version(f"ops:{number}", scheme=scheme).status_code)
        assert server.version(PASSWORD).status_code == 200
    assert statuses == [401] * FROM_ONE + [429] * 2 * FROM_ONE
    refused = server.version("ops:x")
    assert 0 < int(refused.headers["Retry-After"]) <= 6
    assert server.version(None).status_code == 401  # no guess
    assert server.http.get("/api/health").status_code == 200
    assert server.http.get("/", headers={"Authorization": "Basic eDp5"}).status_code != 429  # of a proxy's own


def test_right_password_passes_while_others_guess_at_full_speed(server: Server) -> None:
    over = threading.Event()

    def guess(number: int) -> int:
        refused = 0
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=20, trust_env=False) as http:
            while not over.is_set():
                answer = http.get("/api/flows/x", headers={"Authorization": basic(f"ops:{number}")})
                refused += answer.status_code == 429
        return refused

    with ThreadPoolExecutor(8) as pool:
        guessing = [pool.submit(guess, number) for number in range(8)]
        try:
            assert all(server.version(PASSWORD).status_code == 200 for _ in range(50))
            assert "auth_success" in server.web_socket(PASSWORD)
        finally:
            over.set()
        assert all(guess.result() > 0 for guess in guessing)


def test_guesses_over_web_sockets_count_as_well(server: Server) -> None:
    reasons = [server.web_socket(f"ops:{number}") for number in range(FROM_ONE + 3)]
    assert reasons == ["Invalid token"] * FROM_ONE + ["too many wrong passwords"] * 3
    assert server.version("ops:x").status_code == 429
    assert "auth_success" in server.web_socket(PASSWORD)


@pytest.mark.parametrize("first", ["\ud800", "ü", ""])
def test_odd_tokens_end_the_web_socket_and_nothing_else(server: Server, first: str) -> None:
    assert "auth_success" not in server.web_socket(first)
    assert "auth_success" in server.web_socket(PASSWORD)


def test_web_socket_that_says_nothing_is_closed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_MESSAGE_SECONDS", 0.2)
    url = f"ws://127.0.0.1:{server.port}/api/events/out"
    with connect(url, subprotocols=[Subprotocol("prefect")]) as silent, pytest.raises(ConnectionClosed) as closed:
        silent.recv(20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason == "no password came"
