"""Requests to Prefect's API for a deployment by its name from before 0.1 get the present one, for one release.

So `prefect deployment run KIND/lane-a`, `run_deployment()` and scripts still work. A deployment that really has such a
name is found by it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from opsdb.kinds.names import POOLS, current_name

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BY_OLD_NAME = re.compile(rf"(/api/deployments/name/([^/]+)/)({'|'.join(sorted(POOLS))})/?")


def with_old_names(app: App) -> App:
    """The app, which is asked once more, for the present name, where it has no deployment of an old one."""

    async def asked_twice(scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        match = BY_OLD_NAME.fullmatch(scope["path"]) if asks else None
        if match is None:
            await app(scope, receive, send)
            return
        missing = False

        async def unless_missing(message: Message) -> None:
            nonlocal missing
            if message["type"] == "http.response.start":
                missing = message["status"] == 404
            if not missing:
                await send(message)

        await app({**scope}, receive, unless_missing)
        if missing:
            path = match[1] + current_name(match[2], match[3])
            await app({**scope, "path": path, "raw_path": path.encode()}, _without_body(receive), send)

    return asked_twice


def _without_body(receive: Receive) -> Receive:
    """`receive` of a request whose body, an empty one, was taken before."""
    first = True

    async def again() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        return await receive()

    return again
