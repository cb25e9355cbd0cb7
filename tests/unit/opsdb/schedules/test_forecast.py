"""Due times that are ahead, over nights in which clocks change. That Prefect plans the same is tested on a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.forecast import forecast
from opsdb.schedules.impossible import ImpossibleScheduleError
from opsdb.schedules.rules import Override, ScheduleRules
from opsdb.schedules.times import MOST, Schedule, due_times, latest_due_times, when

SKIPPED = "02:30 does not exist that day, the clocks skip it: due at {} instead"
FIRST_OF_TWO = "the clocks show {} twice that day: due the first time only"


def cron(text: str, zone: str) -> CronSchedule:
    return CronSchedule(cron=text, timezone=zone)


def days(count: float, *, anchor: str, zone: str) -> IntervalSchedule:
    at = datetime.fromisoformat(anchor).replace(tzinfo=ZoneInfo(zone))
    return IntervalSchedule(interval=timedelta(days=count), anchor_date=at, timezone=zone)


def shown(schedule: Schedule, start: str, *, days: float = 3) -> list[tuple[str, str]]:
    """Each due time by the clocks of its zone, with what is said of it."""
    zone = ZoneInfo(schedule.timezone or "UTC")
    begin = datetime.fromisoformat(start).replace(tzinfo=zone)
    found = forecast(schedule, ScheduleRules(), start=begin, days=days)
    assert not found.more
    return [(f"{due.at:%m-%d %H:%M %z}", "; ".join(due.notes)) for due in found.due]


@pytest.mark.parametrize(
    ("schedule", "start", "expected"),
    [
        (
            cron("30 2 * * *", "Europe/Rome"),
            "2027-03-27",
            [("03-27 02:30 +0100", ""), ("03-28 03:30 +0200", SKIPPED.format("03:30")), ("03-29 02:30 +0200", "")],
        ),
        (
            cron("30 2 * * *", "Europe/Rome"),
            "2026-10-24",
            [("10-24 02:30 +0200", ""), ("10-25 02:30 +0200", FIRST_OF_TWO.format("02:30")), ("10-26 02:30 +0100", "")],
        ),
        (
            cron("30 2 * * *", "America/New_York"),
            "2027-03-13",
            [("03-13 02:30 -0500", ""), ("03-14 03:30 -0400", SKIPPED.format("03:30")), ("03-15 02:30 -0400", "")],
        ),
        (
            cron("30 1 * * *", "America/New_York"),
            "2026-10-31",
            [("10-31 01:30 -0400", ""), ("11-01 01:30 -0400", FIRST_OF_TWO.format("01:30")), ("11-02 01:30 -0500", "")],
        ),
        (
            cron("15 2 * * *", "Australia/Lord_Howe"),
            "2026-10-03",
            [
                ("10-03 02:15 +1030", ""),
                ("10-04 02:45 +1100", "02:15 does not exist that day, the clocks skip it: due at 02:45 instead"),
                ("10-05 02:15 +1100", ""),
            ],
        ),
        (
            cron("45 1 * * *", "Australia/Lord_Howe"),
            "2027-04-03",
            [("04-03 01:45 +1100", ""), ("04-04 01:45 +1100", FIRST_OF_TWO.format("01:45")), ("04-05 01:45 +1030", "")],
        ),
        (
            cron("30 2 * * *", "Asia/Manila"),
            "2027-03-27",
            [("03-27 02:30 +0800", ""), ("03-28 02:30 +0800", ""), ("03-29 02:30 +0800", "")],
        ),
        (
            days(1, anchor="2027-03-01T02:30", zone="Europe/Rome"),
            "2027-03-27",
            # Prefect goes on from the time to which the clocks have moved it
            [("03-27 02:30 +0100", ""), ("03-28 03:30 +0200", SKIPPED.format("03:30")), ("03-29 03:30 +0200", "")],
        ),
        (
            RRuleSchedule(rrule="FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0", timezone="Europe/Rome"),
            "2027-03-27",
            # by dateutil's rules it is the hour before
            [("03-27 02:30 +0100", ""), ("03-28 01:30 +0100", SKIPPED.format("01:30")), ("03-29 02:30 +0200", "")],
        ),
    ],
)
def test_forecast_says_what_clocks_that_change_make_of_a_time(
    schedule: Schedule, start: str, expected: list[tuple[str, str]]
) -> None:
    assert shown(schedule, start) == expected


def test_hour_that_is_skipped_is_said_where_the_next_one_is_due_anyway() -> None:
    found = shown(cron("0 * * * *", "Europe/Rome"), "2027-03-28", days=0.2)
    assert [at for at, _ in found] == [f"03-28 {at}" for at in ("00:00 +0100", "01:00 +0100", "03:00 +0200")] + [
        "03-28 04:00 +0200",
        "03-28 05:00 +0200",
    ]
    said = [(at, note) for at, note in found if note]
    assert said == [
        ("03-28 03:00 +0200", "02:00 does not exist that day, the clocks skip it: due at 03:00 instead"),
    ]


def test_hours_that_are_counted_lose_the_repeated_one_in_prefect_and_the_forecast_says_so() -> None:
    anchor = datetime(2026, 10, 1, 0, 30, tzinfo=UTC)
    hourly = IntervalSchedule(interval=timedelta(hours=1), anchor_date=anchor, timezone="Europe/Rome")
    found = shown(hourly, "2026-10-25T01:00", days=0.15)
    assert [at for at, _ in found][:3] == ["10-25 01:30 +0200", "10-25 02:30 +0200", "10-25 03:30 +0100"]
    assert found[1][1] == FIRST_OF_TWO.format("02:30")


@pytest.mark.parametrize("zone", ["Europe/Rome", "America/New_York", "Australia/Lord_Howe", "Asia/Manila", "UTC"])
@pytest.mark.parametrize("text", ["0 0 * * *", "59 23 * * *", "0 12 * * 0", "30 3 * * 1-5"])
def test_time_that_always_exists_is_due_at_it_each_day_of_a_year_without_a_note(zone: str, text: str) -> None:
    schedule = cron(text, zone)
    found = forecast(schedule, ScheduleRules(), start=datetime(2026, 11, 30, tzinfo=UTC), days=366)
    minute, hour = text.split()[:2]
    assert {(due.at.minute, due.at.hour) for due in found.due} == {(int(minute), int(hour))}
    assert len({due.at.date() for due in found.due}) == len(found.due)
    assert {note for due in found.due for note in due.notes} == set()


def test_blackouts_and_overrides_are_part_of_the_forecast() -> None:
    start = datetime(2026, 12, 4, tzinfo=UTC)
    override = Override(
        starts_at=datetime(2026, 12, 6, 2, tzinfo=UTC),
        ends_at=datetime(2026, 12, 6, 2, tzinfo=UTC),
        reason="month's close",
        made_by="ann",
        made_at=start,
    )
    rules = ScheduleRules(blackouts=(read_blackout("Fri 18:00 to Mon 06:00"),), overrides=(override,))
    found = forecast(cron("0 2 * * *", "UTC"), rules, start=start, days=4)
    assert [(due.at.day, due.blackout) for due in found.due] == [
        (4, None),
        (5, "Fri 18:00 to Mon 06:00"),
        (6, None),
        (7, "Fri 18:00 to Mon 06:00"),
    ]
    assert found.due[2].notes == ("blackout Fri 18:00 to Mon 06:00 overridden by ann: month's close",)


def test_more_than_can_be_listed_is_said() -> None:
    every = IntervalSchedule(interval=timedelta(seconds=4), anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
    found = forecast(every, ScheduleRules(), start=datetime(2026, 12, 1, tzinfo=UTC), days=14)
    assert (len(found.due), found.more) == (MOST, True)


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_cron_of_days_that_do_not_exist_has_no_forecast(text: str) -> None:
    with pytest.raises(ImpossibleScheduleError, match="never fires: there is no such day"):
        forecast(cron(text, "UTC"), ScheduleRules(), start=datetime(2026, 12, 1, tzinfo=UTC), days=14)


def test_latest_due_times_are_found_among_any_number() -> None:
    end = datetime(2026, 12, 1, tzinfo=UTC)
    every = IntervalSchedule(interval=timedelta(seconds=4), anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
    found = latest_due_times(every, start=end - timedelta(days=30), end=end, count=101)
    assert found == [end - timedelta(seconds=4 * number) for number in reversed(range(101))]
    weekly = cron("0 5 * * 0", "UTC")
    found = latest_due_times(weekly, start=end - timedelta(days=30), end=end, count=2)
    assert [at.day for at in found] == [22, 29]
    assert latest_due_times(weekly, start=end - timedelta(days=1), end=end, count=2) == []


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (cron("0 2 * * *", "UTC"), "daily 02:00"),
        (cron("0 2 1 * 1", "UTC"), "cron 0 2 1 * 1"),
        (IntervalSchedule(interval=timedelta(minutes=10)), "every 10 min"),
        (IntervalSchedule(interval=timedelta(hours=1)), "every 1 h"),
        (RRuleSchedule(rrule="FREQ=DAILY"), "rrule FREQ=DAILY"),
    ],
)
def test_schedules_are_named_in_words(schedule: Schedule, words: str) -> None:
    assert when(schedule) == words


def test_due_times_are_in_the_zone_of_the_schedule_and_hold_both_ends() -> None:
    start = datetime(2026, 12, 1, 18, tzinfo=UTC)
    found = due_times(cron("0 2 * * *", "Asia/Manila"), start=start, end=start + timedelta(days=1))
    assert [at.isoformat() for at in found] == ["2026-12-02T02:00:00+08:00", "2026-12-03T02:00:00+08:00"]


def test_due_times_are_in_the_order_of_their_moments_not_of_what_clocks_show() -> None:
    anchor = datetime(2026, 9, 1, 2, 30, tzinfo=ZoneInfo("America/New_York"))
    every = IntervalSchedule(interval=timedelta(minutes=50), anchor_date=anchor, timezone="America/New_York")
    start = datetime(2027, 11, 7, tzinfo=UTC)
    moments = [at.timestamp() for at in due_times(every, start=start, end=start + timedelta(days=1))]
    assert len(moments) > 20
    assert moments == sorted(moments)
