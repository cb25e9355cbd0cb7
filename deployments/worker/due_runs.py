"""Whether any run waits to be taken: one question for all lanes of a process, at a quarter of the cost of one poll."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

SHARED_SECONDS = 0.5
"""For how long an answer counts: the lanes of a process poll once a second, each at its own moment."""
POLL_SECONDS = 20.0
"""When a lane is polled though nothing is due: Prefect shows its queues as not ready after 60 s without a poll."""


class DueRuns:
    """What the lanes of one process ask before they poll."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._asked_at = -math.inf
        self._any = False
        self._polled_at: dict[str, float] = {}

    async def worth_a_poll(self, lane: str, client: PrefectClient, *, before: datetime) -> bool:
        """Whether a lane is to be polled now. Raises httpx.HTTPError."""
        now = asyncio.get_running_loop().time()
        worth = await self.any(client, before=before) or now - self._polled_at.get(lane, -math.inf) >= POLL_SECONDS
        if worth:
            self._polled_at[lane] = now
        return worth

    async def any(self, client: PrefectClient, *, before: datetime) -> bool:
        """Whether a run of any lane is due by then. Raises httpx.HTTPError."""
        async with self._lock:
            clock = asyncio.get_running_loop().time
            if clock() - self._asked_at >= SHARED_SECONDS:
                due = FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                    next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=before),
                )
                self._any = await client.count_flow_runs(flow_run_filter=due) > 0
                self._asked_at = clock()
            return self._any
