"""From which due time on a schedule is planned again after the room was down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.schedules import CronSchedule

from deployments.worker.missed_ticks import MOST, first_wanted
from opsdb.schedules.catch_up import read_catch_up
from opsdb.schedules.rules import ScheduleRules

NOW = datetime(2026, 12, 5, 12, 5, tzinfo=UTC)
HOURLY = CronSchedule(cron="0 * * * *", timezone="UTC")


def wanted(rule: str, *, away: timedelta) -> tuple[datetime | None, bool]:
    return first_wanted(HOURLY, ScheduleRules(catch_up=read_catch_up(rule)), since=NOW - away, now=NOW)


@pytest.mark.parametrize(
    ("rule", "away", "hours_ago"),
    [
        ("skip", timedelta(days=2), None),
        ("all", timedelta(hours=10), 9),
        ("all", timedelta(minutes=4), None),
        ("once within 2h", timedelta(days=2), 0),
        ("once within 30m", timedelta(days=2), 0),
    ],
)
def test_schedule_is_planned_from_what_its_rule_wants(rule: str, away: timedelta, hours_ago: int | None) -> None:
    begin, whole = wanted(rule, away=away)
    expected = None if hours_ago is None else datetime(2026, 12, 5, 12 - hours_ago, tzinfo=UTC)
    assert (begin, whole) == (expected, True)


def test_of_more_than_can_be_made_up_for_the_newest_are_planned() -> None:
    begin, whole = wanted("all", away=timedelta(days=30))
    assert not whole
    assert begin is not None
    assert begin == NOW.replace(minute=0) - timedelta(hours=MOST - 1)


def test_newest_is_planned_though_it_is_too_old_so_that_somebody_hears_of_it() -> None:
    nightly = CronSchedule(cron="0 2 * * *", timezone="UTC")
    begin, whole = first_wanted(nightly, ScheduleRules(), since=NOW - timedelta(days=5), now=NOW)
    assert (begin, whole) == (NOW.replace(hour=2, minute=0), True)
