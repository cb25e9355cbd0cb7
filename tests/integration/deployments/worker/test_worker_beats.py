"""A worker says that it lives, and says good-bye."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy import text

from deployments.worker.lane_worker import worker_name
from deployments.worker.serve import _keep_beating
from opsdb.database import connect
from opsdb.settings import Settings
from opsdb.tables import Lane


def test_worker_that_ends_on_purpose_leaves_no_trace(settings: Settings) -> None:
    engine = connect(settings, application="test")

    def rows() -> list[Any]:
        with engine.connect() as db:
            return list(db.execute(text("SELECT name, lane FROM ops.workers ORDER BY lane")))

    async def serve() -> None:
        task = asyncio.ensure_future(_keep_beating(engine, [Lane.A, Lane.C], settings.timings.beat))
        deadline = time.monotonic() + 20
        while not rows() and time.monotonic() < deadline:  # noqa: ASYNC110  # the database has no event for it
            await asyncio.sleep(0.05)
        assert rows() == [(worker_name(), "A"), (worker_name(), "C")]
        task.cancel()
        await asyncio.wait([task], timeout=10)

    asyncio.run(serve())
    assert rows() == []
    engine.dispose()
