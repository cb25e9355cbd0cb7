"""When schedules fire, and which of them never do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule

from deployments.server.declared import DeclaredSchedule
from opsdb.schedules.fires import next_fire
from opsdb.schedules.impossible import ImpossibleScheduleError, expression

NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
"""The day before Berlin's clocks go forward."""


def rule(*lines: str) -> RRuleSchedule:
    return RRuleSchedule(rrule="\n".join(lines))


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        (CronSchedule(cron="0 2 * * *"), "2026-03-29 02:00"),
        (CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin"), "2026-03-29 01:30"),  # 02:30 there does not exist
        (CronSchedule(cron="0 0 29 2 *"), "2028-02-29 00:00"),
        (IntervalSchedule(interval=timedelta(hours=1), anchor_date=NOW - timedelta(minutes=10)), "2026-03-28 12:50"),
        (
            IntervalSchedule(interval=timedelta(days=1), anchor_date=datetime(9990, 1, 1, tzinfo=UTC)),
            "2026-03-29 00:00",
        ),
        (rule("FREQ=DAILY;UNTIL=20280101T000000"), "2026-03-29 00:00"),
        (rule("DTSTART:20260328T000000", "RRULE:FREQ=MINUTELY;INTERVAL=7"), "2026-03-28 12:01"),
        (rule("RRULE:FREQ=DAILY", "EXDATE:20260329T000000"), "2026-03-30 00:00"),
    ],
)
def test_schedule_fires_when_prefect_plans_it(schedule: SCHEDULE_TYPES, at: str) -> None:
    assert next_fire(schedule, after=NOW) == datetime.fromisoformat(f"{at}+00:00")


@pytest.mark.parametrize(
    ("schedule", "found", "hint"),
    [
        (CronSchedule(cron="0 0 30 2 *"), "never fires", "a day that its month has"),
        (IntervalSchedule(interval=timedelta(days=3_000_000)), "never fires: date value out of range", "86400"),
        (
            IntervalSchedule(interval=timedelta(days=40_000), anchor_date=NOW - timedelta(days=1)),
            "does not fire within 50 years",
            "86400",
        ),
        (rule("FREQ=DAILY;UNTIL=20280101T000000Z"), "never fires: RRULE UNTIL values", "UNTIL has no Z"),
        (rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "does not fire within 50 years", "FREQ=DAILY"),
        (rule("DTSTART:99900101T000000", "RRULE:FREQ=DAILY"), "does not fire within 50 years", "FREQ=DAILY"),
        (rule("RRULE:FREQ=DAILY", "EXRULE:FREQ=DAILY"), "does not fire within 50 years", "FREQ=DAILY"),
        (rule("FREQ=MINUTELY"), "makes Prefect's server stand still", "DTSTART:20260328T000000"),
        (rule("FREQ=SECONDLY;BYSETPOS=2"), "makes Prefect's server stand still", "DTSTART:20260328T000000"),
    ],
)
def test_schedule_that_never_fires_is_named_with_what_would_be_right(
    schedule: SCHEDULE_TYPES, found: str, hint: str
) -> None:
    with pytest.raises(ImpossibleScheduleError) as refused:
        next_fire(schedule, after=NOW)
    assert str(refused.value).startswith(f"{expression(schedule)} {found}")
    assert hint in refused.value.hint
    assert not refused.value.over


@pytest.mark.parametrize(
    "lines",
    [["FREQ=DAILY;UNTIL=20210101T000000"], ["FREQ=DAILY;COUNT=3"], ["RDATE:20200101T000000Z"]],
)
def test_schedule_that_has_fired_is_over(lines: list[str]) -> None:
    with pytest.raises(ImpossibleScheduleError, match="is over: it does not fire again") as refused:
        next_fire(rule(*lines), after=NOW)
    assert refused.value.over


def test_file_names_the_schedule_that_never_fires() -> None:
    with pytest.raises(ValueError, match=r"leap: cron '0 0 30 2 \*' never fires") as refused:
        DeclaredSchedule(slug="leap", cron="0 0 30 2 *")
    assert "Hint: give a day that its month has" in str(refused.value)


def test_file_may_hold_a_schedule_that_is_over() -> None:
    assert DeclaredSchedule(slug="once", rrule="FREQ=DAILY;COUNT=3").slug == "once"
