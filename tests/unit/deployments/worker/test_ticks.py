"""Which runs are ticks of a schedule, and by which rules they are judged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import AwaitingConcurrencySlot, AwaitingRetry, Cancelled, Completed, Late, Scheduled
from sqlalchemy.exc import OperationalError

from deployments.worker.ticks import LastKnownRules, Ticks, due_at_of
from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.catch_up import read_catch_up
from opsdb.schedules.rules import ScheduleRules, TickEnd
from opsdb.settings import Settings

DUE = datetime(2026, 12, 5, 2, tzinfo=UTC)
SCHEDULE = uuid4()


def made(**columns: Any) -> FlowRun:
    """A run as Prefect's scheduler makes it."""
    by = {"id": SCHEDULE, "type": "SCHEDULE", "display_value": "nightly"}
    given: dict[str, Any] = {
        "id": uuid4(),
        "flow_id": uuid4(),
        "name": "run",
        "auto_scheduled": True,
        "created_by": by,
        "expected_start_time": DUE,
        "state": Scheduled(scheduled_time=DUE),
    }
    return FlowRun(**given | columns)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"state": Late(scheduled_time=DUE)},
        {"state": AwaitingConcurrencySlot(scheduled_time=DUE + timedelta(minutes=9))},
    ],
)
def test_run_that_a_schedule_wants_and_that_nobody_touched_is_a_tick(columns: dict[str, Any]) -> None:
    assert due_at_of(made(**columns)) == DUE


@pytest.mark.parametrize(
    "columns",
    [
        {"auto_scheduled": False},
        {"run_count": 1},
        {"state": AwaitingRetry(scheduled_time=DUE)},
        {"state": Scheduled(scheduled_time=DUE, name="Resuming")},
        {"state": Scheduled(scheduled_time=DUE + timedelta(hours=2))},
        {"state": Scheduled(scheduled_time=DUE - timedelta(hours=2))},
        {"state": None},
    ],
)
def test_run_that_somebody_asked_for_or_that_goes_on_is_not_judged(columns: dict[str, Any]) -> None:
    assert due_at_of(made(**columns)) is None


def verdict(rules: ScheduleRules, *, late: float, runs: list[FlowRun] | None = None, zone: str = "UTC") -> Any:
    client, cache = AsyncMock(), AsyncMock(spec=LastKnownRules)
    client.read_flow_runs.return_value = runs or []
    cache.of.return_value = rules
    schedule = DeploymentSchedule(id=SCHEDULE, schedule=CronSchedule(cron="0 2 * * *", timezone=zone))
    deployment = DeploymentResponse(
        id=uuid4(), name="nightly", flow_id=uuid4(), work_pool_name="lane-b", schedules=[schedule], labels={}
    )
    run = made(parameters={"databases": ["a", "b"]})
    now = DUE + timedelta(minutes=late)
    found = asyncio.run(Ticks(client, cache).judge(run, DUE, deployment, kind="night", now=now))
    cache.of.assert_awaited_once_with(SCHEDULE)
    return found


def test_tick_is_judged_by_the_rules_and_the_zone_of_its_schedule() -> None:
    rules = ScheduleRules(blackouts=(read_blackout("Sat 09:30 to Sat 10:30"),))  # 10:00 in Manila
    assert verdict(rules, late=0).end is None
    assert verdict(rules, late=0, zone="Asia/Manila").end is TickEnd.BLACKOUT


def test_missed_tick_names_the_command_with_the_parameters_of_the_run() -> None:
    said = verdict(ScheduleRules(), late=180)
    assert said.end is TickEnd.MISSED
    assert said.message.endswith("To run the same now: ops run night --lane B -p databases=a,b")


def test_newer_tick_counts_unless_somebody_cancelled_it_or_it_is_of_another_schedule() -> None:
    later = DUE + timedelta(minutes=20)
    other = {"id": uuid4(), "type": "SCHEDULE", "display_value": "other"}

    def end(**columns: Any) -> TickEnd | None:
        found: TickEnd | None = verdict(ScheduleRules(), late=30, runs=[made(expected_start_time=later, **columns)]).end
        return found

    assert end() is TickEnd.SUPERSEDED
    assert end(state=Completed()) is TickEnd.SUPERSEDED
    assert end(state=Cancelled()) is None
    assert end(created_by=other) is None
    assert end(auto_scheduled=False) is None


class FlakyRules(LastKnownRules):
    """Rules of which a database is asked that may be away."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.answers: list[dict[UUID, ScheduleRules] | Exception] = []

    def _read(self) -> dict[UUID, ScheduleRules]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_rules_that_were_known_last_hold_while_the_database_is_away() -> None:
    away = OperationalError("select", {}, Exception("connection refused"))
    every = ScheduleRules(catch_up=read_catch_up("all"))
    cache = FlakyRules()

    async def ask() -> ScheduleRules:
        cache._read_again_at = 0.0  # as if the time had passed
        return await cache.of(SCHEDULE)

    cache.answers = [away, {SCHEDULE: every}, away]
    assert asyncio.run(ask()) == ScheduleRules()  # a backup too many is better than a night without
    assert asyncio.run(ask()) == every
    assert asyncio.run(ask()) == every
    assert cache.answers == []


def test_rule_holds_for_the_next_run_and_a_database_that_is_away_is_not_asked_for_each() -> None:
    away = OperationalError("select", {}, Exception("connection refused"))
    every = ScheduleRules(catch_up=read_catch_up("all"))
    cache = FlakyRules()
    cache.answers = [{}, {SCHEDULE: every}, away]

    async def ask() -> list[ScheduleRules]:
        return [await cache.of(SCHEDULE) for _ in range(5)]

    assert asyncio.run(ask()) == [ScheduleRules(), every, every, every, every]
    assert cache.answers == []
