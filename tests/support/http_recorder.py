"""A local HTTP server that takes whatever is posted to it, and keeps it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was posted."""

    path: str
    headers: Message
    body: bytes


@dataclass
class Recorder:
    """The server's side."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    recorder: Recorder


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.recorder.requests.append(Request(path=self.path, headers=self.headers, body=body))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@contextmanager
def recording(certificate: tuple[Path, Path] | None = None) -> Iterator[Recorder]:
    """Serve for a while; with the files of a certificate and its key over TLS."""
    recorder = Recorder()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.recorder = recorder
        recorder.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join(5)
