"""A local server that keeps to the contract of Mattermost's incoming webhooks, and misbehaves on demand."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "h5xkq3zt1pgj8bdu7rwmcn4eya"
POST_CHARACTERS = 16_383
BODY_BYTES = 300_000


@dataclass
class Mattermost:
    """The server's side: what arrived, and how it answers next.

    A mood is a status, or one of: hang, drip, reset (the post was taken, the connection then reset), redirect, login (a
    page with 200). The last mood stays.
    """

    port: int = 0
    moods: list[Any] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    posts: list[dict[str, Any]] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Its webhook, as Apprise spells it."""
        return f"mmost://ops@127.0.0.1:{self.port}/{TOKEN}/?to=ops-alerts&image=no"

    @property
    def texts(self) -> list[str]:
        """What was posted, oldest first."""
        return [post["text"] for post in self.posts]

    def mood(self) -> Any:
        with self.lock:
            return self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:  # noqa: PLR0911  # one return for each way to end
        chat = self.server.chat
        chat.requests.append(time.monotonic())
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        mood = chat.mood()
        if mood == "hang":
            chat.closing.wait(60)
            return
        if mood == "redirect":
            self._answer(302, b"", {"Location": "/login"})
            return
        if mood == "login":
            self._answer(200, b"<!DOCTYPE html><title>Mattermost</title>")
            return
        if mood == "drip":
            for byte in b"HTTP/1.0 200 OK\r\nX-Slow: " + b"x" * 300:
                with suppress(OSError):
                    self.wfile.write(bytes([byte]))
                if chat.closing.wait(0.05):
                    return
            return
        if mood not in (200, "reset"):
            self._answer(mood, b'{"id":"api.error"}', chat.headers)
            return
        status, body = self._take(raw)
        if mood == "reset":
            # as if it died between the post and the answer
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        self._answer(status, body)

    def do_GET(self) -> None:
        mood = self.server.chat.mood()
        if mood == "hang":
            self.server.chat.closing.wait(60)
        elif mood == "redirect":
            self._answer(302, b"", {"Location": "/login"})
        elif self.path != "/api/v4/system/ping" or mood == "login":
            self._answer(200, b"<!DOCTYPE html><title>Log in</title>")
        else:
            self._answer(mood, b'{"status":"OK"}' if mood == 200 else b'{"status":"UNHEALTHY"}')

    def _take(self, raw: bytes) -> tuple[int, bytes]:
        if len(raw) > BODY_BYTES:
            return 413, b'{"id":"api.too_large"}'
        if self.path != f"/hooks/{TOKEN}":
            return 400, b'{"id":"web.incoming_webhook.invalid.app_error"}'
        if not self.headers["Content-Type"].startswith("application/json"):
            return 400, b'{"id":"web.incoming_webhook.parse.app_error"}'
        post = json.loads(raw)
        if not str(post.get("text", "")).strip() and not post.get("attachments"):
            return 400, b'{"id":"web.incoming_webhook.text.app_error"}'
        if post.get("channel") == "gone":
            return 404, b'{"id":"web.incoming_webhook.channel.app_error"}'
        text = post.get("text", "")
        with self.server.chat.lock:
            for start in range(0, max(1, len(text)), POST_CHARACTERS):
                self.server.chat.posts.append({**post, "text": text[start : start + POST_CHARACTERS]})
        return 200, b"ok"

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, chat: Mattermost, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", chat.port), _Handler)
        self.chat, self.tls = chat, tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the client's own thread: a handshake that does not end keeps back nobody."""
        super().finish_request(self.tls.wrap_socket(request, server_side=True) if self.tls else request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


@contextmanager
def listening(chat: Mattermost, *, tls: ssl.SSLContext | None = None) -> Iterator[Mattermost]:
    """Serve for a while, by HTTPS with `tls`; the port stays the same when it is served again."""
    server = _Server(chat, tls)
    chat.port = server.server_address[1]
    chat.closing.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        chat.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
