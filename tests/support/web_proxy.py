"""A local web proxy: it passes on what it is asked for, with a password or without, and counts it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class WebProxy:
    """Its side: who wants to go where. `login` is the `user:password` that it asks for."""

    login: str = ""
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.login + '@' if self.login else ''}127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_CONNECT(self) -> None:
        if self._refused():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as there:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
                for one in (self.connection, there):
                    selector.register(one, selectors.EVENT_READ)
                while True:
                    for key, _ in selector.select(10):
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]  # they are sockets
                        if not data:
                            return
                        (there if key.fileobj is self.connection else self.connection).sendall(data)

    def do_POST(self) -> None:
        if self._refused():
            return
        parts = urlsplit(self.path)
        onward = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        onward.request("POST", parts.path, body=body, headers={"Content-Type": self.headers["Content-Type"]})
        answer = onward.getresponse()
        said = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
        onward.close()

    def _refused(self) -> bool:
        proxy: WebProxy = self.server.proxy
        proxy.asked.append(self.path)
        wanted = f"Basic {base64.b64encode(proxy.login.encode()).decode()}"
        if proxy.login and self.headers.get("Proxy-Authorization") != wanted:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        return False

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@contextmanager
def proxying(proxy: WebProxy) -> Iterator[WebProxy]:
    """Serve for a while."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.proxy = proxy  # type: ignore[attr-defined]  # what the handler needs
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
