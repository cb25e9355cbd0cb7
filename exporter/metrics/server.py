"""The HTTP side: `/metrics`, `/-/healthy`, `/-/ready` and a landing page, by a bounded number of threads."""

from __future__ import annotations

import ipaddress
import logging
import math
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from prometheus_client.exposition import choose_encoder

from exporter.metrics.credentials import Credentials, check_listening, tls_context
from exporter.metrics.scrape import SCRAPE_SECONDS, Scraper
from opsdb.errors import UsageError
from opsdb.settings import Settings

log = logging.getLogger("ops.exporter")

ANSWER_SECONDS = SCRAPE_SECONDS + 0.25
REQUESTS = 32
"""How many requests are served at once; one more is refused."""
CLIENT_SECONDS = 5.0
"""How long a client may keep us waiting for its request, or for taking the answer."""
HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

LANDING = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Ops exporter</title>
<h1>Ops exporter</h1>
<p>The Ops Control Room, for Prometheus.</p>
<ul><li><a href="/metrics">/metrics</a></li>
<li><a href="/-/healthy">/-/healthy</a>: this process answers</li>
<li><a href="/-/ready">/-/ready</a>: so does the ops database</li></ul></html>
"""


class MetricsServer:
    """Serves the metrics in threads of its own. Use as a context manager.

    Raises UsageError when the address is taken, or open to others without a guard.
    """

    def __init__(self, settings: Settings, scraper: Scraper) -> None:
        check_listening(settings)
        stored = settings.exporter_basic_auth
        credentials = Credentials(stored.get_secret_value()) if stored is not None else None
        tls = tls_context(settings)
        address = settings.exporter_address, settings.exporter_port
        try:
            self._server = _Server(address, scraper, credentials)
        except OSError as error:
            raise UsageError(
                f"the exporter cannot listen on {address[0]} port {address[1]}: {error.strerror}; "
                "OPS_EXPORTER_PORT and OPS_EXPORTER_ADDRESS set it"
            ) from error
        if tls is not None:  # the handshake is the handler's, else a silent client would stop all others
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, name="ops-exporter", daemon=True)

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = REQUESTS

    def __init__(self, address: tuple[str, int], scraper: Scraper, credentials: Credentials | None) -> None:
        if ipaddress.ip_address(address[0]).version == 6:
            self.address_family = socket.AF_INET6
        self.scraper = scraper
        self.credentials = credentials
        self._free = threading.BoundedSemaphore(REQUESTS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the base class has it
        if isinstance(sys.exception(), OSError):  # a client that went away, or spoke no TLS
            log.debug("request of %s", client_address, exc_info=True)
        else:
            log.exception("request of %s", client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "ops-exporter"
    sys_version = ""
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        match self.path.split("?")[0]:
            case "/-/healthy":
                self._answer(200, b"healthy\n")
            case "/-/ready":
                up = self.server.scraper.scrape(seconds=ANSWER_SECONDS).up
                self._answer(200 if up else 503, b"ready\n" if up else b"the ops database does not answer in full\n")
            case "/" | "/metrics" as path:
                self._guarded(path)
            case _:
                self._answer(404, b"see /\n")

    def _guarded(self, path: str) -> None:
        credentials = self.server.credentials
        if credentials is not None and not credentials.accept(self.headers.get("Authorization", "")):
            self._answer(401, b"who are you?\n", {"WWW-Authenticate": 'Basic realm="ops", charset="UTF-8"'})
        elif path == "/":
            self._answer(200, LANDING, {"Content-Type": "text/html; charset=utf-8"})
        else:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            families = self.server.scraper.scrape(seconds=answer_seconds(self.headers.get(HEADER)))
            self._answer(200, encode(families), {"Content-Type": content_type})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        log.debug(format, *args)


def answer_seconds(header: str | None) -> float:
    """The time for an answer: a tenth less than Prometheus says that it waits, and below 3 s in any case."""
    try:
        told = float(header or math.inf)
    except ValueError:
        return ANSWER_SECONDS
    return min(ANSWER_SECONDS, told * 0.9) if told > 0 else ANSWER_SECONDS
