"""Prefect's API by names of before: asked once more, and only where there is nothing of that name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.server.old_names import with_old_names


def asked(path: str, *, there: set[str], method: str = "GET") -> tuple[list[str], list[int]]:
    """The paths that the app is asked for, and the status that the client gets."""
    paths: list[str] = []
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        assert scope["raw_path"].decode() == scope["path"]
        paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 200 if scope["path"] in there else 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}

    async def ask() -> None:
        await with_old_names(app)(scope, receive, send)

    asyncio.run(ask())
    return paths, statuses


OLD, NEW = "/api/deployments/name/disk_space/lane-c", "/api/deployments/name/disk_space/disk_space-lane-c"


@pytest.mark.parametrize(
    ("path", "there", "paths", "status"),
    [
        (OLD, {NEW}, [OLD, NEW], 200),
        (OLD, {OLD, NEW}, [OLD], 200),  # somebody's own has that name
        (OLD, set(), [OLD, NEW], 404),
        (NEW, {NEW}, [NEW], 200),
        (f"{OLD}x", {NEW}, [f"{OLD}x"], 404),
        ("/api/work_pools/lane-c", set(), ["/api/work_pools/lane-c"], 404),
    ],
)
def test_old_name_is_tried_first_and_then_the_one_of_now(
    path: str, there: set[str], paths: list[str], status: int
) -> None:
    assert asked(path, there=there) == (paths, [status])


def test_nothing_is_written_twice() -> None:
    assert asked(OLD, there={NEW}, method="POST") == ([OLD], [404])
