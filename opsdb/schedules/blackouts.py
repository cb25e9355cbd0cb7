"""Blackout windows: when a schedule starts nothing. Pure.

A window has no zone: a due time falls into it when the clocks of the schedule's zone show a time in it. So one that
ends in the hour that comes twice lasts until the clocks run past its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DATE = r"(\d{4}-\d\d-\d\d)(?:[ T](\d{1,2}:\d\d))?"
_DATES = re.compile(rf"{_DATE} to {_DATE}")
_WEEKLY = re.compile(r"([a-z]{3,9}) (\d{1,2}:\d\d) to ([a-z]{3,9}) (\d{1,2}:\d\d)")
_DAILY = re.compile(r"daily (\d{1,2}:\d\d) to (\d{1,2}:\d\d)")
_RIGHT = "expected `2026-12-24 18:00 to 2026-12-27 06:00`, `Fri 18:00 to Mon 06:00` or `daily 08:00 to 18:00`"
_FULL_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_MINUTES = 24 * 60
YEARS = range(2000, 3000)
"""Those that a date may name: what lies far outside is a slip."""
_WEEK_MINUTES = 7 * _DAY_MINUTES


class Blackout(Protocol):
    """A window. It begins with its first minute and ends before its last."""

    def holds(self, wall: datetime) -> bool:
        """Whether the time that the clock shows (without a zone) is in the window."""
        ...

    def over(self, wall: datetime) -> bool:
        """Whether the window has ended for good by then."""
        ...


@dataclass(frozen=True, slots=True)
class Dates:
    """From one moment to another, once."""

    starts: datetime
    ends: datetime

    def holds(self, wall: datetime) -> bool:
        """See `Blackout`."""
        return self.starts <= wall < self.ends

    def over(self, wall: datetime) -> bool:
        """See `Blackout`."""
        return wall >= self.ends

    def __str__(self) -> str:
        return f"{self.starts:%Y-%m-%d %H:%M} to {self.ends:%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class Recurring:
    """The same every week, or every day: minutes from Monday 0:00, or from 0:00. It may go over the end."""

    starts: int
    ends: int
    period: int

    def holds(self, wall: datetime) -> bool:
        """See `Blackout`."""
        minute = (wall.weekday() * _DAY_MINUTES + wall.hour * 60 + wall.minute) % self.period
        if self.starts < self.ends:
            return self.starts <= minute < self.ends
        return minute >= self.starts or minute < self.ends

    def over(self, wall: datetime) -> bool:  # noqa: ARG002 - it comes back
        """See `Blackout`."""
        return False

    def __str__(self) -> str:
        if self.period == _DAY_MINUTES:
            return f"daily {_clock(self.starts)} to {_clock(self.ends)}"
        first, last = DAYS[self.starts // _DAY_MINUTES], DAYS[self.ends // _DAY_MINUTES]
        return f"{first} {_clock(self.starts)} to {last} {_clock(self.ends)}"


def read_blackout(text: str) -> Blackout:
    """A window from its words. Dates without a time are whole days. Raises ValueError that says what would be right."""
    words = " ".join(text.strip().split())
    try:
        if found := _DATES.fullmatch(words):
            return _dates(*found.groups())
        if found := _WEEKLY.fullmatch(words.lower()):
            starts = weekday(found[1]) * _DAY_MINUTES + _minute(found[2])
            ends = weekday(found[3]) * _DAY_MINUTES + _minute(found[4])
            return _recurring(starts, ends % _WEEK_MINUTES, _WEEK_MINUTES)
        if found := _DAILY.fullmatch(words.lower()):
            return _recurring(_minute(found[1]), _minute(found[2]) % _DAY_MINUTES, _DAY_MINUTES)
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is not a blackout: {error}") from None
    raise ValueError(f"{text[:80]!r} is not a blackout: {_RIGHT}")


def weekday(word: str) -> int:
    """The number of a day of the week, Monday being 0, by its name or the first letters of it. Raises ValueError."""
    found = [number for number, name in enumerate(_FULL_DAYS) if len(word) >= 3 and name.startswith(word.lower())]
    if not found:
        raise ValueError(f"{word!r} is not a day of the week (choose from {', '.join(DAYS)})")
    return found[0]


def _dates(first: str, first_time: str | None, last: str, last_time: str | None) -> Dates:
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    if begin.year not in YEARS or end.year not in YEARS:
        raise ValueError(
            f"its years are not all {YEARS[0]} to {YEARS[-1]}. To start nothing for good, pause the schedule"
        )
    starts = datetime.combine(begin, time()) + timedelta(minutes=_minute(first_time or "0:00"))
    ends = datetime.combine(end, time()) + timedelta(minutes=_minute(last_time or "24:00"))
    if ends <= starts:
        raise ValueError("it ends before it begins")
    return Dates(starts, ends)


def _recurring(starts: int, ends: int, period: int) -> Recurring:
    if starts == ends:
        raise ValueError("it begins and ends at the same time. To start nothing at all, pause the schedule")
    return Recurring(starts, ends, period)


def _minute(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or hour * 60 + minute > _DAY_MINUTES:
        raise ValueError(f"{text} is not a time of the day")
    return hour * 60 + minute


def _clock(minute: int) -> str:
    return f"{minute % _DAY_MINUTES // 60:02}:{minute % 60:02}"
