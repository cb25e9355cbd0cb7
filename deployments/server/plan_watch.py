"""Looks each minute at what Prefect lets lanes execute, and at whether it plans the runs of all schedules.

A schedule that never fires, set by somebody in the Prefect UI, is paused: see decision 32. What was seen is kept for
the metrics and for alerts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from cachetools import LRUCache
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import DeploymentSchedule, StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from sqlalchemy import Engine

from opsdb.plans import SchedulePlan, keep_limits, keep_plans
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.schedules.fires import PLANNED_AHEAD, next_fire
from opsdb.schedules.impossible import ImpossibleScheduleError, expression
from opsdb.tables import Lane

log = logging.getLogger(__name__)
T = TypeVar("T")

WATCH_SECONDS = 60.0
PAGE = 200
MOST_PAGES = 10
"""Of planned runs. A schedule whose run is on none of them counts as planned."""
PLANNED_TAG = "auto-scheduled"
"""What Prefect's scheduler tags its runs with."""


class PlanWatch:
    """Keeps what Prefect says of lanes and schedules. Raises what its client and the database raise."""

    def __init__(self, client: PrefectClient, engine: Engine) -> None:
        self._client = client
        self._engine = engine
        self._fires: LRUCache[tuple[UUID, str], datetime] = LRUCache(1000)

    async def keep_watching(self) -> None:
        """Look again and again. Two to four requests each time."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_SECONDS)

    async def look(self) -> None:
        """Look once, pause what never fires, and keep what was seen."""
        pools = {pool.name: pool for pool in await self._client.read_work_pools(limit=PAGE)}
        limits = {str(lane): _slots(pools.get(lane.pool)) for lane in Lane}
        scheduled = await self._scheduled()
        faults = await self._pause_impossible(scheduled)
        plans = await self._plans(scheduled, faults)

        def keep() -> None:
            with self._engine.begin() as db:
                keep_limits(db, limits)
                keep_plans(db, plans)

        await asyncio.to_thread(keep)

    async def _scheduled(self) -> list[tuple[str, DeploymentResponse]]:
        """The deployments of runbooks that have schedules, with their full names."""
        runbooks = DeploymentFilter(tags=DeploymentFilterTags(all_=[RUNBOOK_TAG]))
        flows = await _all(self._client.read_flows, deployment_filter=runbooks)
        found = await _all(self._client.read_deployments, deployment_filter=runbooks)
        kinds = {flow.id: flow.name for flow in flows}
        return [(f"{kinds[one.flow_id]}/{one.name}", one) for one in found if one.schedules and one.flow_id in kinds]

    async def _pause_impossible(self, scheduled: list[tuple[str, DeploymentResponse]]) -> dict[UUID, str]:
        """Pause what never fires. Returns why it does not, by schedule.

        What has fired and is over stays: it harms nobody.
        """
        faults = {}
        for name, deployment in scheduled:
            for schedule in _active(deployment):
                try:
                    await self._next_fire(schedule)
                except ImpossibleScheduleError as error:
                    if error.over:
                        continue
                    faults[schedule.id] = str(error)
                    await self._pause(name, deployment, schedule, error)
        return faults

    async def _next_fire(self, schedule: DeploymentSchedule) -> datetime:
        key, now = (schedule.id, schedule.schedule.model_dump_json()), datetime.now(UTC)
        if key not in self._fires or self._fires[key] < now:
            self._fires[key] = await asyncio.to_thread(next_fire, schedule.schedule, after=now)
        return self._fires[key]

    async def _pause(
        self, name: str, deployment: DeploymentResponse, schedule: DeploymentSchedule, error: ImpossibleScheduleError
    ) -> None:
        log.warning("schedule %s of %s paused: %s", _name(schedule), name, error)
        try:
            await self._client.update_deployment_schedule(deployment.id, schedule.id, active=False)
        except ObjectNotFound:
            return  # deleted meanwhile
        schedule.active = False

    async def _plans(
        self, scheduled: list[tuple[str, DeploymentResponse]], faults: dict[UUID, str]
    ) -> list[SchedulePlan]:
        wanted = {one.id for _, deployment in scheduled for one in _active(deployment) if await self._fires_soon(one)}
        planned, complete = await self._planned(wanted)
        return [
            SchedulePlan(
                id=schedule.id,
                deployment=name,
                name=_name(schedule),
                expression=expression(schedule.schedule),
                active=schedule.active and not deployment.paused,
                planned_at=planned.get(schedule.id),
                unplanned=complete and schedule.id in wanted - planned.keys(),
                fault=faults.get(schedule.id),
            )
            for name, deployment in scheduled
            for schedule in deployment.schedules
        ]

    async def _fires_soon(self, schedule: DeploymentSchedule) -> bool:
        """Whether Prefect should have planned a run of it by now."""
        try:
            return await self._next_fire(schedule) - datetime.now(UTC) < PLANNED_AHEAD
        except ImpossibleScheduleError:
            return False

    async def _planned(self, wanted: set[UUID]) -> tuple[dict[UUID, datetime], bool]:
        """When the first planned run of each schedule is due, and whether all planned runs were looked at."""
        planned: dict[UUID, datetime] = {}
        filters = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[RUNBOOK_TAG, PLANNED_TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC)),
        )
        for number in range(MOST_PAGES):
            if wanted <= planned.keys():
                return planned, True
            page = await self._client.read_flow_runs(
                flow_run_filter=filters, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=PAGE, offset=number * PAGE
            )
            for run in page:
                if run.created_by is not None and run.created_by.id is not None and run.expected_start_time is not None:
                    planned.setdefault(run.created_by.id, run.expected_start_time)
            if len(page) < PAGE:
                return planned, True
        return planned, False


def _slots(pool: WorkPool | None) -> int | None:
    """How many runs a lane executes at once; None for any number."""
    return 0 if pool is None or pool.is_paused else pool.concurrency_limit


async def _all(read: Callable[..., Awaitable[list[T]]], **filters: Any) -> list[T]:
    found: list[T] = []
    while len(page := await read(**filters, limit=PAGE, offset=len(found))) == PAGE:
        found += page
    return found + page


def _active(deployment: DeploymentResponse) -> Iterator[DeploymentSchedule]:
    return (one for one in deployment.schedules if one.active and not deployment.paused)


def _name(schedule: DeploymentSchedule) -> str:
    return schedule.slug or expression(schedule.schedule)
