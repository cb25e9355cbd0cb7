"""A schedule that never fires, and how schedules are written in messages."""

from __future__ import annotations

from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule

from opsdb.errors import UsageError


class ImpossibleScheduleError(UsageError):
    """A schedule never fires. The text names it, says why, and what would be right."""

    def __init__(self, schedule: SCHEDULE_TYPES, found: str, *, hint: str, over: bool = False) -> None:
        super().__init__(f"{expression(schedule)} {found}. Hint: {hint}")
        self.found = found
        self.hint = hint
        self.over = over
        """Whether it has fired and is over. That harms no other schedule; every other one stops those beside it."""


def expression(schedule: SCHEDULE_TYPES) -> str:
    """A schedule as people write it: `cron '0 2 * * *'`."""
    if isinstance(schedule, CronSchedule):
        return f"cron {schedule.cron!r}"
    if isinstance(schedule, IntervalSchedule):
        return f"interval {schedule.interval.total_seconds():g} s"
    if isinstance(schedule, RRuleSchedule):
        return f"rrule {' '.join(schedule.rrule.split())!r}"
    return "no schedule"


def hint_for(schedule: SCHEDULE_TYPES) -> str:
    """What would be right instead."""
    if isinstance(schedule, CronSchedule):
        return "give a day that its month has: 5 fields, minute hour day month weekday, as in '0 2 * * *'"
    if isinstance(schedule, IntervalSchedule):
        return "give the interval in seconds, as in 86400 for a day, and an anchor date near today"
    return "give a rule that has dates, as in 'FREQ=DAILY;BYHOUR=2'; an UNTIL has no Z at its end"
