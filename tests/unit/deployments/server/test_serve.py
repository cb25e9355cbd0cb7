"""Which senders the server trusts to name the address that a request comes from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from deployments.server.serve import server_config
from opsdb.settings import Settings

FORWARDED = [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-proto", b"https")]


@pytest.mark.parametrize(
    ("settings", "client", "scheme"),
    [
        (Settings(), "127.0.0.1", "http"),
        (Settings(server_url="http://127.0.0.1:4300"), "127.0.0.1", "http"),
        (Settings(server_url="https://ops.example.org"), "203.0.113.7", "https"),
        (Settings(allowed_hosts="ops.example.org"), "203.0.113.7", "https"),
    ],
)
def test_forwarded_address_is_believed_only_where_a_web_server_may_stand_in_front(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, client: str, scheme: str
) -> None:
    monkeypatch.setattr(uvicorn.Config, "configure_logging", lambda _config: None)
    seen: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], _receive: Any, _send: Any) -> None:
        seen.append(scope)

    config = server_config(app, settings)
    config.load()
    scope = {"type": "http", "client": ("127.0.0.1", 40000), "scheme": "http", "headers": FORWARDED}
    asyncio.run(config.loaded_app(scope, None, None))
    assert (seen[0]["client"][0], seen[0]["scheme"]) == (client, scheme)
