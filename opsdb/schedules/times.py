"""When a schedule is due: what Prefect's own server will plan, by its own classes, and in words."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from prefect._vendor.croniter.croniter import CroniterBadDateError
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.server.schemas import schedules as planned
from pydantic import TypeAdapter

from opsdb.amounts import seconds
from opsdb.schedules.cron_words import words_of
from opsdb.schedules.impossible import ImpossibleScheduleError, hint_for

T = TypeVar("T")
Schedule: TypeAlias = CronSchedule | IntervalSchedule | RRuleSchedule

MOST = 1000
"""How many due times Prefect's classes look at."""
_PLANNED: TypeAdapter[planned.SCHEDULE_TYPES] = TypeAdapter(planned.SCHEDULE_TYPES)


def zone_of(schedule: Schedule) -> ZoneInfo:
    """The zone whose clocks a schedule follows."""
    return ZoneInfo(schedule.timezone or "UTC")


def due_times(schedule: Schedule, *, start: datetime, end: datetime | None = None, count: int = MOST) -> list[datetime]:
    """The times from `start` to `end`, both included, in the schedule's zone; the first `count`, at most `MOST`.

    Raises ImpossibleScheduleError when there is none at all, ever.
    """
    zone = zone_of(schedule)
    try:
        dates = _finish(as_planned(schedule).get_dates(min(count, MOST), start, end))  # type: ignore[arg-type]  # None is meant
    except CroniterBadDateError:
        raise ImpossibleScheduleError(schedule, "never fires: there is no such day", hint=hint_for(schedule)) from None
    # not by what clocks show, as datetimes of one zone compare
    return [datetime.fromtimestamp(moment, zone) for moment in sorted(one.timestamp() for one in dates)]


def latest_due_times(schedule: Schedule, *, start: datetime, end: datetime, count: int) -> list[datetime]:
    """The last `count` times from `start` to `end`. Raises ImpossibleScheduleError."""
    length = timedelta(minutes=10)
    while True:  # one every few seconds has far more than can be looked at
        begin = max(start, end - length)
        found = due_times(schedule, start=begin, end=end)
        if begin == start or len(found) >= count:
            return found[-count:]
        length *= 3


def when(schedule: Schedule) -> str:
    """When it is due, for people: `daily 02:00`, `Sundays 05:00`, else as it was written."""
    if isinstance(schedule, CronSchedule):
        return words_of(schedule.cron) or f"cron {schedule.cron}"
    if isinstance(schedule, IntervalSchedule):
        return f"every {seconds(schedule.interval.total_seconds()).removesuffix(' 00 s').removesuffix(' 00 min')}"
    return f"rrule {schedule.rrule.replace(chr(10), ' ')}"


def on_plain_clocks(schedule: Schedule) -> Schedule | None:
    """The same schedule by clocks that never change: its times, read in UTC, are what clocks should show.

    None for an interval, which continues from where clocks have moved it.
    """
    return None if isinstance(schedule, IntervalSchedule) else schedule.model_copy(update={"timezone": "UTC"})


def clocks_change(zone: ZoneInfo, start: datetime, end: datetime) -> bool:
    """Whether the clocks of a zone change between these."""
    days = range((end - start).days + 2)
    return len({(start.astimezone(UTC) + timedelta(days=day)).astimezone(zone).utcoffset() for day in days}) > 1


def as_planned(schedule: SCHEDULE_TYPES) -> planned.SCHEDULE_TYPES:
    # by way of JSON, as it comes to Prefect's server: in nights that clocks change, the type of an anchor matters
    return _PLANNED.validate_json(schedule.model_dump_json())


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing, as those of Prefect's schedules."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # typed as Any
    work.close()
    raise RuntimeError("Prefect's schedules wait for something now: due_times has to be a coroutine")
