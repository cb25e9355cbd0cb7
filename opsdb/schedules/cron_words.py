"""`at` and `on` in the words of people become a cron, and a simple cron becomes words again."""

from __future__ import annotations

import re

from opsdb.schedules.blackouts import DAYS, weekday

_AT = re.compile(r"(\d{1,2}):(\d\d)")
_GROUPS = {"daily": "*", "weekdays": "1-5", "weekends": "0,6"}
_WORDS = {"*": "daily", "1-5": "weekdays", "0,6": "weekends", "6,0": "weekends"}
_LONG = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
_NUMBER = re.compile(r"\d{1,2}")


FIVE_FIELDS = "expected five fields: minute, hour, day, month, day of the week, as in '30 3 * * 1-5'"


def check_cron(text: str) -> None:
    """Raises ValueError for what is not a cron of five fields. Prefect takes a sixth one: that is seconds."""
    if len(text.split()) != 5:
        raise ValueError(f"{text!r} is not a cron: {FIVE_FIELDS}")


def cron_of(at: str, on: str = "daily") -> str:
    """The cron for a time of the day, as in 03:30, on these days. Raises ValueError."""
    return f"{minute_and_hour(at)} * * {days_field(on)}"


def minute_and_hour(at: str) -> str:
    """The first two fields of a cron for a time of the day, as in 03:30. Raises ValueError."""
    found = _AT.fullmatch(at.strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise ValueError(f"{at[:40]!r} is not a time of the day: expected hours and minutes, as in 03:30")
    return f"{int(found[2])} {int(found[1])}"


def days_field(on: str) -> str:
    """The last field of a cron for daily, weekdays, weekends, or days as in sun,wed. Raises ValueError."""
    words = on.strip().lower()
    if words in _GROUPS:
        return _GROUPS[words]
    try:
        numbers = {(weekday(word.strip()) + 1) % 7 for word in words.split(",")}
    except ValueError:
        right = "expected daily, weekdays, weekends, or days with commas between them, as in sun,wed"
        raise ValueError(f"{on[:60]!r} names no days: {right}") from None
    return ",".join(map(str, sorted(numbers)))


def words_of(cron: str) -> str | None:
    """What a simple cron says: a time, and days of the week or of the month. None for any other."""
    fields = cron.split()
    if len(fields) != 5 or fields[3] != "*":
        return None
    minute, hour, day, _, days = fields
    if _NUMBER.fullmatch(minute) and _NUMBER.fullmatch(hour):
        at = f"{int(hour):02}:{int(minute):02}"
        if day == "*":
            named = _days(days)
            return f"{named} {at}" if named else None
        return f"monthly on day {int(day)}, {at}" if days == "*" and _NUMBER.fullmatch(day) else None
    return _several_a_day(minute) if (hour, day, days) == ("*", "*", "*") else None


def _several_a_day(minute: str) -> str | None:
    if minute == "*":
        return "every minute"
    if _NUMBER.fullmatch(minute):
        return f"hourly at :{int(minute):02}"
    found = re.fullmatch(r"\*/(\d{1,2})", minute)
    return f"every {int(found[1])} minutes" if found and int(found[1]) and 60 % int(found[1]) == 0 else None


def _days(field: str) -> str | None:
    if field in _WORDS:
        return _WORDS[field]
    names = {name.lower(): (number + 1) % 7 for number, name in enumerate(DAYS)}
    try:
        numbers = [names[part.lower()] if part.lower() in names else int(part) % 7 for part in field.split(",")]
    except ValueError:
        return None
    if any(not re.fullmatch(r"[0-7]|[A-Za-z]{3}", part) for part in field.split(",")):
        return None
    if len(numbers) == 1:
        return _LONG[numbers[0]]
    return ", ".join(DAYS[(number - 1) % 7] for number in numbers)
