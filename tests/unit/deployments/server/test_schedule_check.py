"""Whether a schedule has planned runs, schedule by schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, RRuleSchedule

from deployments.server.schedule_check import judge_schedule

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLANNED = datetime(2026, 1, 2, 4, tzinfo=timezone(timedelta(hours=2)))
NIGHTLY = CronSchedule(cron="0 2 * * *")
LEAP = CronSchedule(cron="0 0 30 2 *")
OVER = RRuleSchedule(rrule="FREQ=DAILY;COUNT=3")


def on(when: SCHEDULE_TYPES) -> DeploymentSchedule:
    return DeploymentSchedule(schedule=when, active=True, slug="slug")


def off(when: SCHEDULE_TYPES) -> DeploymentSchedule:
    return DeploymentSchedule(schedule=when, active=False, slug="slug")


@pytest.mark.parametrize(
    ("schedule", "planned_at", "minutes", "problem", "words"),
    [
        (on(NIGHTLY), PLANNED, 60, False, "next scheduled for 2026-01-02 02:00 UTC"),
        (on(NIGHTLY), None, 1, False, "was deployed just now"),
        (on(NIGHTLY), None, 60, True, "it will not start"),
        (off(NIGHTLY), None, 60, False, "its schedule slug is paused: nothing starts by it; `ops schedule set"),
        (on(CronSchedule(cron="0 0 1 12 *")), None, 60, False, "next due at 2026-12-01 00:00 UTC"),
        (on(LEAP), PLANNED, 60, True, "Prefect plans none of the schedules beside it"),
        (off(LEAP), None, 60, True, "cron '0 0 30 2 *' never fires"),
        (on(OVER), None, 60, True, "is over: it does not fire again"),
        (off(OVER), None, 60, False, "is over: it does not fire again; it is paused"),
    ],
)
def test_schedule_is_one_whose_runs_are_planned(
    schedule: DeploymentSchedule, planned_at: datetime | None, minutes: int, *, problem: bool, words: str
) -> None:
    check = judge_schedule("nightly/nightly", schedule, planned_at, age=timedelta(minutes=minutes), now=NOW)
    assert (check.ok, words in check.found) == (not problem, True)
