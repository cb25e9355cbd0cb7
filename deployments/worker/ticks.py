"""What becomes of the due times of schedules, judged before a process starts: blackouts, and what came too late."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from sqlalchemy.exc import DBAPIError

from opsdb.database import connect, first_line
from opsdb.runs.prefect_runs import LANE_OF_POOL
from opsdb.schedules.by_hand import run_command
from opsdb.schedules.rules import ScheduleRules, Verdict, judge, wants_newer
from opsdb.schedules.store import read_rules
from opsdb.settings import Settings
from opsdb.tables import Lane

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0
"""When a database that did not answer is asked again: no run waits for it meanwhile."""
_NATURAL = ("Scheduled", "Late")
_WAITS_FOR_SLOT = "AwaitingConcurrencySlot"
PAGE = 200


def due_at_of(flow_run: FlowRun) -> datetime | None:
    """When its schedule wanted a run that waits to be claimed; None for one that somebody asked for, or put off.

    A run that has begun before continues, however late that is: it is retried, approved, or has postponed itself.
    """
    state = flow_run.state
    if not flow_run.auto_scheduled or flow_run.expected_start_time is None or state is None or flow_run.run_count:
        return None
    due_at = _plain(flow_run.expected_start_time)
    if state.name == _WAITS_FOR_SLOT:
        return due_at
    wanted_at = state.state_details.scheduled_time
    moved = wanted_at is None or abs(wanted_at - due_at) > timedelta(seconds=1)
    return None if moved or state.name not in _NATURAL else due_at


class Ticks:
    """Judges the due times of one lane."""

    def __init__(self, client: PrefectClient, rules: LastKnownRules) -> None:
        self._client = client
        self._rules = rules

    async def judge(
        self, flow_run: FlowRun, due_at: datetime, deployment: DeploymentResponse, *, kind: str, now: datetime
    ) -> Verdict:
        """What becomes of a run that its schedule wanted then. Raises httpx.HTTPError."""
        schedule_id = schedule_of(flow_run)
        zone = ZoneInfo("UTC")
        for schedule in deployment.schedules:
            if schedule.id == schedule_id:
                zone = ZoneInfo(getattr(schedule.schedule, "timezone", None) or "UTC")
        rules = await self._rules.of(schedule_id)
        newer: list[datetime] = []
        if schedule_id is not None and wants_newer(due_at, now, rules):
            newer = await self._newer(deployment.id, schedule_id, after=due_at, until=now)
        lane = LANE_OF_POOL.get(deployment.work_pool_name or "", Lane.A)
        by_hand = run_command(kind, lane, flow_run.parameters)
        return judge(due_at, zone=zone, now=now, rules=rules, newer=newer, by_hand=by_hand)

    async def _newer(
        self, deployment_id: UUID, schedule_id: UUID, *, after: datetime, until: datetime
    ) -> list[datetime]:
        """The newest due time of a schedule between these that nobody cancelled; empty without one."""
        runs = await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
                expected_start_time=FlowRunFilterExpectedStartTime(after_=after, before_=until),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=PAGE,
        )
        return [
            _plain(run.expected_start_time)
            for run in runs
            if run.auto_scheduled
            and schedule_of(run) == schedule_id
            and run.expected_start_time is not None
            and run.expected_start_time > after
            and not (run.state is not None and run.state.is_cancelled())
        ]


def _plain(at: datetime) -> datetime:
    """A moment without what Prefect's own type adds to it, and warns of."""
    return datetime.fromtimestamp(at.timestamp(), UTC)


def schedule_of(flow_run: FlowRun) -> UUID | None:
    """The id of the schedule that made a run; None for a run that none made."""
    made_by = flow_run.created_by
    return made_by.id if made_by is not None and made_by.type == "SCHEDULE" else None


class LastKnownRules:
    """The rules of all schedules, for all lanes of a process, read for each run: a rule holds as soon as it is set.

    While the database is away, those known last hold.
    """

    def __init__(self, settings: Settings) -> None:
        self._engine = connect(settings, application="worker", statement_seconds=2)
        self._known: dict[UUID, ScheduleRules] = {}
        self._read_again_at = 0.0
        self._lock = asyncio.Lock()

    async def of(self, schedule_id: UUID | None) -> ScheduleRules:
        """The rules of a schedule, which are the default ones where nothing is known."""
        async with self._lock:
            if time.monotonic() >= self._read_again_at:
                try:
                    self._known = await asyncio.to_thread(self._read)
                except DBAPIError as error:
                    # a backup too many is better than a night without
                    log.warning("the rules of schedules are those known last: %s", first_line(error))
                    self._read_again_at = time.monotonic() + AGAIN_SECONDS
        return self._known.get(schedule_id, ScheduleRules()) if schedule_id else ScheduleRules()

    def _read(self) -> dict[UUID, ScheduleRules]:
        with self._engine.connect() as db:
            return {schedule_id: known.effective for schedule_id, known in read_rules(db).items()}
