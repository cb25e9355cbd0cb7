"""What stands before Prefect's server: known host names only, no foreign code in its pages, no guessing at full speed.

`docs/decisions/0019-wrong-passwords-are-limited.md` says what the limit on guesses is for.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from prefect.settings import get_current_settings

from opsdb.settings import Settings
from opsdb.web.guesses import Guesses
from opsdb.web.hosts import host_name, host_refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSED = re.compile(r"(?:/api)?/(?:docs|docs/oauth2-redirect|redoc|openapi\.json)", re.IGNORECASE)
"""Pages that load a script from a foreign host into the origin that keeps the password, and what they are made from."""

POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-eval'",  # the graph of a run compiles its drawing; still no inline scripts
        "style-src 'self' 'unsafe-inline'",  # the UI sets styles of elements, and its editor adds sheets
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",  # the graph of a run is laid out by a worker that the page makes
        "connect-src 'self' {web_sockets}",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
FIRST_MESSAGE_SECONDS = 10.0
"""How long a WebSocket may stay open without a word: the first one holds the password."""
SAFE = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}


def guarded(app: App, settings: Settings) -> App:
    """Prefect's app behind the guard, as an ASGI app. Prefect's own settings say which password is right."""
    password = get_current_settings().server.api.auth_string
    return Guard(
        app,
        hosts=settings.known_hosts,
        password=password.get_secret_value() if password is not None else None,
        address=settings.server_address,
    )


class Guard:
    """The guard, as an ASGI app. Without a password nothing is a guess. `address` is where operators reach the UI."""

    def __init__(self, app: App, *, hosts: Iterable[str], password: str | None, address: str = "") -> None:
        self._app = app
        self._authority, self._below = urlsplit(address).netloc.lower(), urlsplit(address).path
        self._hosts = frozenset(hosts)
        self._password = password
        self._guesses = Guesses("the Prefect server")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of uvicorn's."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = self._at_our_root(scope)
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
        elif scope["type"] == "http" and self._below and scope["path"] == "/":
            await _redirect(send, f"{self._below}/")
        elif scope["type"] == "http":
            await self._app(scope, receive, _with_safe_headers(scope, send, authority=self._authority))
        else:
            await self._web_socket(scope, receive, send)

    def _at_our_root(self, scope: Scope) -> Scope:
        """The connection with the API where Prefect has it: that serves its UI below a path, and the API never."""
        api = f"{self._below}/api"
        if not self._below or not f"{scope['path']}/".startswith(f"{api}/"):
            return scope
        raw = scope.get("raw_path", b"").removeprefix(self._below.encode())
        return {**scope, "path": scope["path"].removeprefix(self._below), "raw_path": raw}

    def _refusal(self, scope: Scope) -> tuple[int, str, int] | None:
        """Status, one line, and the seconds after which to try again; None when Prefect may answer."""
        hosts = _headers(scope, b"host")
        refusal = host_refusal(hosts[0] if len(hosts) == 1 else None, self._hosts)
        if refusal is not None:
            return *refusal, 0
        if not scope.get("raw_path", b"/").startswith(b"/"):
            return 400, "the request's target is not a path\n", 0
        if scope["type"] == "websocket" and not all(self._is_ours(origin) for origin in _headers(scope, b"origin")):
            return 403, "this page may not open a WebSocket here\n", 0
        path = re.sub("/+", "/", scope["path"])
        if CLOSED.fullmatch(path.rstrip("/")):
            return 404, "not served here\n", 0
        wait = self._wait(scope) if f"{path}/".startswith("/api/") else 0
        return (429, "too many wrong passwords\n", wait) if wait else None

    def _is_ours(self, origin: str) -> bool:
        """Whether a page of that origin may open a WebSocket."""
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and host_name(parts.netloc) in self._hosts

    def _wait(self, scope: Scope) -> int:
        """The seconds for which a wrong password is not passed on; 0 when it is, and for the right one in any case."""
        given = _headers(scope, b"authorization")
        if self._password is None or not given or all(self._is_right(_decoded(header)) for header in given):
            return 0
        return self._guesses.take(_client(scope))

    def _is_right(self, given: str) -> bool:
        return self._password is not None and hmac.compare_digest(
            given.encode(errors="surrogatepass"), self._password.encode()
        )

    async def _web_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Prefect takes the password of a WebSocket out of its first message."""
        first = True

        async def checked() -> Message:
            nonlocal first
            if not first:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), FIRST_MESSAGE_SECONDS)
            except TimeoutError:
                return await close("no password came")
            if message["type"] != "websocket.receive":
                return message
            first = False
            token = _token(message.get("text"))
            if token is None or self._password is None or self._is_right(token):
                return message
            if self._guesses.take(_client(scope)):
                return await close("too many wrong passwords")
            return message

        async def close(reason: str) -> Message:
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return {"type": "websocket.disconnect", "code": 1008}

        await self._app(scope, checked, send)


def _with_safe_headers(scope: Scope, send: Send, *, authority: str) -> Send:
    """`send` for an answer of Prefect's: its headers and ours, ours where both have one."""
    host = _headers(scope, b"host")[0].strip().lower()  # it is a known one
    ports_cut_off = authority and host_name(authority) == host_name(host)  # by a proxy
    names = dict.fromkeys([host, authority] if ports_cut_off else [host])
    web_sockets = " ".join(f"ws://{name} wss://{name}" for name in names)
    ours = SAFE | {b"content-security-policy": POLICY.format(web_sockets=web_sockets).encode()}
    if scope["path"].startswith("/api/"):
        ours |= {b"cache-control": b"no-store"}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            theirs = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
            message = {**message, "headers": [*theirs, *ours.items()]}
        await send(message)

    return sending


async def _redirect(send: Send, path: str) -> None:
    headers = [(b"location", path.encode()), (b"content-length", b"0"), (b"cache-control", b"no-store"), *SAFE.items()]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Scope, send: Send, status: int, line: str, retry_seconds: int) -> None:
    kind = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *SAFE.items()]
    headers.append((b"content-length", str(len(line.encode())).encode()))
    if retry_seconds:
        headers.append((b"retry-after", str(retry_seconds).encode()))
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": line.encode()})


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for found, value in scope["headers"] if found.lower() == name]


def _client(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "unknown"


def _decoded(header: str) -> str:
    """The password in an `Authorization` header as Prefect reads it; empty when there is none."""
    try:
        scheme, credentials = header.split()
        return base64.b64decode(credentials).decode() if scheme == "Basic" else ""
    except ValueError:
        return ""


def _token(text: str | None) -> str | None:
    """The password in a WebSocket's first message; None when there is none."""
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    token = message.get("token") if isinstance(message, dict) else None
    return token if isinstance(token, str) else None
