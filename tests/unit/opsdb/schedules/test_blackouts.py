"""Windows in which nothing starts, by what clocks show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsdb.schedules.blackouts import DAYS, read_blackout
from opsdb.schedules.rules import ScheduleRules

ROME = ZoneInfo("Europe/Rome")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-12-24 18:00 to 2026-12-27 06:00", "2026-12-24 18:00 to 2026-12-27 06:00"),
        ("2026-12-24T18:00 to 2026-12-27", "2026-12-24 18:00 to 2026-12-28 00:00"),
        ("2026-12-24 to 2026-12-24", "2026-12-24 00:00 to 2026-12-25 00:00"),
        ("fri 18:00  to monday 6:00", "Fri 18:00 to Mon 06:00"),
        ("Daily 08:00 to 18:00", "daily 08:00 to 18:00"),
        ("daily 22:00 to 24:00", "daily 22:00 to 00:00"),
        ("Sun 20:00 to Sun 24:00", "Sun 20:00 to Mon 00:00"),
    ],
)
def test_windows_are_read_and_written_alike(text: str, written: str) -> None:
    window = read_blackout(text)
    assert str(window) == written
    assert read_blackout(written) == window


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected `2026"),
        ("Fri 18:00", "expected `2026"),
        ("Fri 18:00 to 06:00", "expected `2026"),
        ("Fry 18:00 to Mon 06:00", "'fry' is not a day of the week"),
        ("Fri 25:00 to Mon 06:00", "25:00 is not a time of the day"),
        ("Fri 18:60 to Mon 06:00", "18:60 is not a time of the day"),
        ("Fri 18:00 to Fri 18:00", "begins and ends at the same time"),
        ("daily 08:00 to 08:00", "begins and ends at the same time"),
        ("2026-12-27 06:00 to 2026-12-24 18:00", "ends before it begins"),
        ("2026-12-24 18:00 to 2026-12-24 18:00", "ends before it begins"),
        ("2026-02-30 to 2026-03-01", "day is out of range"),
    ],
)
def test_what_is_no_window_is_refused_with_what_would_be_right(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_blackout(text)


@pytest.mark.parametrize(
    ("window", "wall", "held"),
    [
        ("Fri 18:00 to Mon 06:00", "2026-12-04 17:59", False),
        ("Fri 18:00 to Mon 06:00", "2026-12-04 18:00", True),
        ("Fri 18:00 to Mon 06:00", "2026-12-06 12:00", True),
        ("Fri 18:00 to Mon 06:00", "2026-12-07 05:59", True),
        ("Fri 18:00 to Mon 06:00", "2026-12-07 06:00", False),
        ("Tue 08:00 to Wed 08:00", "2026-12-02 07:59", True),
        ("daily 22:00 to 06:00", "2026-12-02 23:00", True),
        ("daily 22:00 to 06:00", "2026-12-02 05:00", True),
        ("daily 22:00 to 06:00", "2026-12-02 06:00", False),
        ("2026-12-24 18:00 to 2026-12-27 06:00", "2026-12-24 18:00", True),
        ("2026-12-24 18:00 to 2026-12-27 06:00", "2026-12-27 06:00", False),
        ("2026-12-24 18:00 to 2026-12-27 06:00", "2027-12-25 06:00", False),
    ],
)
def test_window_begins_with_its_first_minute_and_ends_before_its_last(window: str, wall: str, held: bool) -> None:
    assert read_blackout(window).holds(datetime.fromisoformat(wall)) is held


@pytest.mark.parametrize(
    ("window", "due_at", "held"),
    [
        # clocks go back at 01:00 UTC on 2026-10-25: 02:30 comes twice, and both are before 02:45
        ("Sun 01:00 to Sun 02:45", "2026-10-25T00:30Z", True),
        ("Sun 01:00 to Sun 02:45", "2026-10-25T01:30Z", True),
        ("Sun 01:00 to Sun 02:45", "2026-10-25T01:50Z", False),
        ("2026-10-25 01:00 to 2026-10-25 02:45", "2026-10-25T01:30Z", True),
        # clocks go on at 01:00 UTC on 2027-03-28: 02:30 does not come, what was due then is due at 03:30
        ("Sun 02:00 to Sun 03:00", "2027-03-28T00:59Z", False),
        ("Sun 02:00 to Sun 03:00", "2027-03-28T01:00Z", False),
        ("Sun 02:00 to Sun 04:00", "2027-03-28T01:30Z", True),
        ("2027-03-28 02:30 to 2027-03-28 03:15", "2027-03-28T01:10Z", True),
    ],
)
def test_window_follows_the_clocks_of_the_zone_when_they_change(window: str, due_at: str, held: bool) -> None:
    rules = ScheduleRules(blackouts=(read_blackout(window),))
    found = rules.blackout_at(datetime.fromisoformat(due_at), ROME)
    assert (found is not None) is held


@given(
    first=st.integers(0, 7 * 1440 - 1),
    length=st.integers(1, 7 * 1440 - 1),
    at=st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)),  # noqa: DTZ001 - what a clock shows
)
def test_weekly_window_holds_as_much_of_each_week_as_it_says(first: int, length: int, at: datetime) -> None:
    def words(minute: int) -> str:
        minute %= 7 * 1440
        return f"{DAYS[minute // 1440]} {minute % 1440 // 60}:{minute % 60:02}"

    window = read_blackout(f"{words(first)} to {words(first + length)}")
    monday = datetime.combine(at.date() - timedelta(days=at.weekday()), datetime.min.time())
    since = int((at - monday).total_seconds() // 60)
    assert window.holds(at) is ((since - first) % (7 * 1440) < length)


def test_only_windows_with_dates_are_over() -> None:
    after = datetime(2026, 12, 27, 6, tzinfo=UTC).replace(tzinfo=None)
    assert read_blackout("2026-12-24 18:00 to 2026-12-27 06:00").over(after)
    assert not read_blackout("2026-12-24 18:00 to 2026-12-27 06:01").over(after)
    assert not read_blackout("Fri 18:00 to Mon 06:00").over(after)
