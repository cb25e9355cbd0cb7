"""The HTTP side: `/metrics`, `/-/healthy`, `/-/ready` and a landing page."""

from __future__ import annotations

import math
from collections.abc import Collection
from ipaddress import ip_address
from types import TracebackType

from prometheus_client.exposition import choose_encoder

from exporter.metrics.credentials import Credentials, check_listening, tls_context
from exporter.metrics.scrape import SCRAPE_SECONDS, Scraper
from opsdb.errors import UsageError
from opsdb.settings import Settings
from opsdb.web.server import Answer, HttpServer, Request

ANSWER_SECONDS = SCRAPE_SECONDS + 0.25
HEADER = "x-prometheus-scrape-timeout-seconds"
UNAUTHORIZED = Answer(401, b"authentication required\n", {"WWW-Authenticate": 'Basic realm="ops", charset="UTF-8"'})

LANDING = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Ops exporter</title>
<h1>Ops exporter</h1>
<p>The Ops Control Room, for Prometheus.</p>
<ul><li><a href="/metrics">/metrics</a></li>
<li><a href="/-/healthy">/-/healthy</a>: this process answers</li>
<li><a href="/-/ready">/-/ready</a>: so does the ops database</li></ul></html>
"""


class MetricsServer:
    """Serves the metrics. Use as a context manager.

    Raises UsageError when the address is taken, or open to others without a guard.
    """

    def __init__(self, settings: Settings, scraper: Scraper) -> None:
        check_listening(settings)
        self._scraper = scraper
        stored = settings.exporter_basic_auth
        self._credentials = Credentials(stored.get_secret_value()) if stored is not None else None
        address, port = settings.exporter_address, settings.exporter_port
        tls = tls_context(settings)
        try:
            self._server = HttpServer(
                address, port, self._answer, hosts=known_hosts(settings), tls=tls, name="ops-exporter"
            )
        except OSError as error:
            raise UsageError(
                f"the exporter cannot listen on {address} port {port}: {error.strerror}; "
                "OPS_EXPORTER_PORT and OPS_EXPORTER_ADDRESS set it"
            ) from error

    def __enter__(self) -> MetricsServer:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def _answer(self, request: Request) -> Answer:
        match request.path:
            case "/-/healthy":
                return Answer(200, b"healthy\n")
            case "/-/ready":
                up = self._scraper.scrape(seconds=ANSWER_SECONDS).up
                return Answer(200 if up else 503, b"ready\n" if up else b"the ops database does not answer in full\n")
            case "/" | "/metrics":
                return self._refusal(request) or self._page(request)
            case _:
                return Answer(404, b"see /\n")

    def _refusal(self, request: Request) -> Answer | None:
        if self._credentials is None:
            return None
        header = request.headers.get("authorization")
        if header is None:
            return UNAUTHORIZED
        verdict = self._credentials.check(header, client=request.client)
        if verdict.retry_seconds:
            return Answer(429, b"too many wrong passwords\n", {"Retry-After": str(verdict.retry_seconds)})
        return None if verdict.right else UNAUTHORIZED

    def _page(self, request: Request) -> Answer:
        if request.path == "/":
            return Answer(200, LANDING, {"Content-Type": "text/html; charset=utf-8"})
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        families = self._scraper.scrape(seconds=answer_seconds(request.headers.get(HEADER)))
        return Answer(200, encode(families), {"Content-Type": content_type})


def known_hosts(settings: Settings) -> Collection[str] | None:
    """The host names to which the metrics answer; None is all of them.

    An address that others reach asks for a password or speaks TLS, and a web page of a foreign name has neither the
    password nor a certificate for that name. Prometheus may call it by any name that leads there.
    """
    if not ip_address(settings.exporter_address).is_loopback:
        return None
    return settings.known_hosts | {settings.exporter_address}


def answer_seconds(header: str | None) -> float:
    """The time for an answer: a tenth less than Prometheus says that it waits, and below 3 s in any case."""
    try:
        told = float(header or math.inf)
    except ValueError:
        return ANSWER_SECONDS
    return min(ANSWER_SECONDS, told * 0.9) if told > 0 else ANSWER_SECONDS
