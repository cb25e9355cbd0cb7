"""The room's small HTTP server, under clients that are slow, many, and spell their requests oddly."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from opsdb.web import server
from opsdb.web.hosts import LOOPBACK
from opsdb.web.server import ANSWERING, CONNECTIONS, Answer, HttpServer, Request
from tests.support.certificates import make_certificate
from tests.support.children import free_port
from tests.support.slow_clients import BEHAVIOURS, Behaviour, deaf, idle, slow_clients, trickling, unfinished
from tests.support.waiting import wait_for

LARGE = b"x" * 16 * 1024 * 1024
"""More than the buffers of a connection hold."""


@contextmanager
def serving(
    answer: Callable[[Request], Answer] = lambda _request: Answer(200, b"here"), *, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    port = free_port()
    with HttpServer("127.0.0.1", port, answer, hosts=LOOPBACK, tls=tls, name="test-server"):
        yield port


def get(port: int) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10, trust_env=False)


def raw(port: int, request: bytes) -> bytes:
    """What a client reads until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while received := client.recv(65536):
            answer += received
    return answer


def held(port: int) -> int:
    """How many connections the server keeps, each a descriptor."""
    return sum(
        1
        for connection in psutil.Process().net_connections("tcp")
        if connection.laddr.port == port and connection.status != "LISTEN" and connection.fd != -1
    )


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends nobody away for being slow: only for being one too many."""
    monkeypatch.setattr(server, "CLIENT_SECONDS", 600.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_crowd_of_slow_clients_keeps_nobody_from_an_answer(behave: Behaviour) -> None:
    before = threading.active_count()
    with serving() as port, slow_clients(port, behave, count=300):
        for _ in range(10):
            assert get(port).text == "here"
        assert held(port) <= CONNECTIONS
        assert threading.active_count() - before <= ANSWERING + 1


@pytest.mark.usefixtures("patient")
def test_crowd_that_takes_no_answer_keeps_nobody_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 8)  # each holds a large answer

    def answer(request: Request) -> Answer:
        return Answer(200, LARGE if request.headers.get("user-agent") is None else b"here")

    with serving(answer) as port, slow_clients(port, deaf, count=20):
        for _ in range(10):
            assert get(port).text == "here"
        assert held(port) in (7, 8)  # all but the one that has just gone


@pytest.mark.usefixtures("patient")
def test_crowd_that_trickles_keeps_nobody_from_an_answer() -> None:
    with serving() as port, slow_clients(port, unfinished, count=300) as crowd, trickling(crowd, every_seconds=0.01):
        for _ in range(10):
            assert get(port).text == "here"


@pytest.mark.usefixtures("patient")
def test_clients_that_speak_no_tls_keep_nobody_from_an_answer(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusted = ssl.create_default_context(cafile=str(certificate))
    with serving(tls=context) as port:
        for behave in BEHAVIOURS:
            with slow_clients(port, behave, count=150):
                answer = httpx.get(f"https://127.0.0.1:{port}/", verify=trusted, timeout=10, trust_env=False)
                assert answer.text == "here"
                assert held(port) <= CONNECTIONS


@pytest.mark.usefixtures("patient")
def test_request_that_is_being_answered_is_never_given_up_for_others() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(_request: Request) -> Answer:
        asked.set()
        go_on.wait(60)
        return Answer(200, b"here")

    with serving(answer) as port, ThreadPoolExecutor(1) as pool:
        first = pool.submit(get, port)
        assert asked.wait(10)
        with slow_clients(port, idle, count=300):
            go_on.set()
            assert first.result(10).text == "here"


@pytest.mark.parametrize("behave", [idle, unfinished, deaf])
def test_client_is_sent_away_after_its_time(behave: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLIENT_SECONDS", 0.5)
    with (
        serving(lambda _request: Answer(200, LARGE)) as port,
        slow_clients(port, behave, count=1) as crowd,
        trickling(crowd, every_seconds=0.05),  # being busy gets it no more time
    ):
        wait_for(lambda: held(port) == 1, seconds=20, what="it is taken")
        wait_for(lambda: held(port) == 0, seconds=20, what="it is sent away")


GOOD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GOOD + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: LocalHost.:99\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: 127.0.0.1\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (GOOD + b"Host: 127.0.0.1\r\n\r\n", 400),
        (GOOD + b"Host: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: me@127.0.0.1\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n", 200),
        (b"nonsense\r\n\r\n", 400),
        (GOOD + b"X: " + b"a" * 16 * 1024, 431),
    ],
)
def test_odd_requests_are_refused_with_a_reason(request_: bytes, status: int) -> None:
    with serving() as port:
        head, _, body = raw(port, request_).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert (body == b"here") is (status == 200)
        assert get(port).text == "here"


@pytest.mark.parametrize("host", [b"127.0.0.1", b"evil.example"])
def test_head_is_answered_as_get_is_without_the_body(host: bytes) -> None:
    with serving() as port:
        rest = b" / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        whole, _, body = raw(port, b"GET" + rest).partition(b"\r\n\r\n")
        assert raw(port, b"HEAD" + rest) == whole + b"\r\n\r\n"
        assert b"content-length: %d" % len(body) in whole.lower()


def test_unknown_host_is_told_which_setting_it_lacks_and_the_log_too(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as port:
        for _ in range(5):
            answer = raw(port, b"GET / HTTP/1.1\r\nHost: metrics.example.org:9464\r\n\r\n")
            assert b"metrics.example.org" in answer
            assert b"OPS_ALLOWED_HOSTS" in answer
    assert sum("metrics.example.org" in record.message for record in caplog.records) == 1


def test_mistake_of_ours_is_500_and_stops_nothing() -> None:
    def answer(request: Request) -> Answer:
        return Answer(200, {"/good": b"good"}[request.path])

    with serving(answer) as port:
        assert raw(port, b"GET /bad?x HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 500 ")
        assert raw(port, b"GET /good?x HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b"good")


def test_end_of_the_server_waits_for_no_client() -> None:
    with serving() as port, slow_clients(port, idle, count=5):
        get(port)
        before = port
    with pytest.raises(httpx.ConnectError):
        get(before)
