"""The guard before an app that says what it was asked: addresses below a path, and what browsers may connect to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.server.guard import Guard, Message, Receive, Scope, Send


def ask(address: str, path: str, *, host: str = "ops.example.org") -> tuple[int, dict[str, str], str]:
    """Status, headers and the path that Prefect would have seen."""
    sent: list[Message] = []
    seen: list[Any] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append((scope["path"], scope["raw_path"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "raw_path": path.encode(), "headers": [(b"host", host.encode())]}
    guard = Guard(app, hosts={"ops.example.org", "127.0.0.1"}, password="x", address=address)
    asyncio.run(guard(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    path_seen, raw = seen[0] if seen else ("", b"")
    assert raw == path_seen.encode()
    return sent[0]["status"], headers, path_seen


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/room/api/health", "/api/health"),
        ("/room/api", "/api"),
        ("/api/health", "/api/health"),
        ("/room/v2/runs", "/room/v2/runs"),
        ("/room/apis", "/room/apis"),
        ("/roomy/api/health", "/roomy/api/health"),
    ],
)
def test_api_is_found_below_the_path_of_the_room(path: str, seen: str) -> None:
    status, headers, found = ask("https://ops.example.org/room", path)
    assert (status, found) == (200, seen)
    assert headers.get("cache-control") == ("no-store" if seen.startswith("/api/") else None)


def test_what_is_closed_is_closed_below_the_path_too() -> None:
    assert ask("https://ops.example.org/room", "/room/api/docs")[0] == 404
    assert ask("https://ops.example.org/room", "/api/docs")[0] == 404


def test_root_leads_to_the_path_of_the_room() -> None:
    status, headers, _ = ask("https://ops.example.org/room", "/", host="127.0.0.1")
    assert (status, headers["location"]) == (307, "/room/")
    assert ask("https://ops.example.org", "/")[0] == 200


def test_without_a_path_nothing_is_taken_off() -> None:
    assert ask("https://ops.example.org", "/room/api/health")[2] == "/room/api/health"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("ops.example.org", "ws://ops.example.org wss://ops.example.org"),
        ("ops.example.org:8443", ""),
        ("127.0.0.1:4200", ""),
    ],
)
def test_page_may_connect_to_the_port_that_a_proxy_took_off(host: str, allowed: str) -> None:
    _, headers, _ = ask("https://ops.example.org:8443", "/", host=host)
    parts = next(part for part in headers["content-security-policy"].split("; ") if part.startswith("connect-src"))
    public = "ws://ops.example.org:8443 wss://ops.example.org:8443"
    wanted = {"ops.example.org": f"{allowed} {public}", "ops.example.org:8443": public}
    assert parts == f"connect-src 'self' {wanted.get(host, f'ws://{host} wss://{host}')}"
