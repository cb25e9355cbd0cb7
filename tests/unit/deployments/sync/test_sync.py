"""In which order a poll does what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, MagicMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from deployments.sync import sync
from deployments.sync.marks import read_watermark
from opsdb.settings import Settings


def test_states_are_recorded_before_runs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    follower = sync.Follower(AsyncMock(), MagicMock(), Settings())
    run, done = FlowRun(id=uuid4(), flow_id=uuid4(), name="brave-lion", work_queue_id=uuid4()), list[str]()

    async def pages(_client: object, *, ended_after: datetime | None) -> AsyncIterator[list[FlowRun]]:
        if ended_after is None:
            yield [run]

    async def in_database(work: Any, *_: object) -> object:
        done.append(getattr(work, "__name__", "watermark"))
        return datetime(2026, 1, 1, tzinfo=UTC) if work is read_watermark else []

    async def name(runs: list[FlowRun]) -> None:
        done.append(f"named {len(runs)}")

    async def apply(runs: list[FlowRun]) -> None:
        done.append(f"applied {len(runs)}")

    monkeypatch.setattr(sync, "pages", pages)
    monkeypatch.setattr(follower, "_in_database", in_database)
    monkeypatch.setattr(follower, "_apply_differing", apply)
    monkeypatch.setattr(follower._naming, "name", name)
    asyncio.run(follower.poll(overlap=sync.OVERLAP))
    assert done == ["read_watermark", "unfinished_runs", "applied 1", "forget_twins", "watermark", "named 1"]
