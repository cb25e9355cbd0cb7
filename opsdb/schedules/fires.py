"""When a schedule fires next, as Prefect's scheduler will find it, and why one never does.

By itself Prefect then plans no other schedule of that deployment either, and only its server's log says so: such a
schedule is refused wherever the room takes one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dateutil.rrule import HOURLY, MINUTELY, SECONDLY, rrule, rruleset
from prefect._vendor.croniter.croniter import CroniterBadDateError
from prefect.client.schemas.schedules import SCHEDULE_TYPES, RRuleSchedule

from opsdb.schedules.impossible import ImpossibleScheduleError, hint_for
from opsdb.schedules.times import as_planned

HORIZON = timedelta(days=50 * 366)
"""How far ahead a date is looked for: as far as Prefect looks for one of a cron."""
PLANNED_AHEAD = timedelta(days=100)
"""How far ahead Prefect plans runs: what fires later has none yet."""
LONGEST_WALK = 100_000
"""Dates that Prefect's server may walk through before it finds the next one: it does so each minute, and serves nobody
meanwhile."""
_PERIODS = {HOURLY: timedelta(hours=1), MINUTELY: timedelta(minutes=1), SECONDLY: timedelta(seconds=1)}


def next_fire(schedule: SCHEDULE_TYPES, *, after: datetime) -> datetime:
    """When a schedule first fires at or after a time, in UTC, by the code with which Prefect's scheduler plans.

    A rule that fits no date takes up to 20 s. Raises ImpossibleScheduleError when it does not fire within 50 years.
    """
    try:
        found = _next_of_rule(schedule, after) if isinstance(schedule, RRuleSchedule) else _next(schedule, after)
    except ImpossibleScheduleError:
        raise
    except CroniterBadDateError as error:
        raise ImpossibleScheduleError(schedule, "never fires: there is no such day", hint=hint_for(schedule)) from error
    except Exception as error:  # what it raises there ends the planning of the whole deployment, whatever it is
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImpossibleScheduleError(schedule, f"never fires: {reason}", hint=hint_for(schedule)) from error
    if found is None or found - after > HORIZON:
        raise ImpossibleScheduleError(schedule, "does not fire within 50 years", hint=hint_for(schedule))
    return datetime.fromtimestamp(found.timestamp(), UTC)


def _next(schedule: SCHEDULE_TYPES, after: datetime) -> datetime | None:
    return next(iter(as_planned(schedule)._get_dates_generator(n=1, start=after)), None)


def _next_of_rule(schedule: RRuleSchedule, after: datetime) -> datetime | None:
    """As Prefect does it, but refused before a walk that would not end."""
    rule = as_planned(schedule).to_rrule()  # type: ignore[union-attr]  # it is of the same kind
    for part in [rule] if isinstance(rule, rrule) else [*rule._rrule, *rule._exrule]:
        _check_walk(schedule, part, after)
    bounded = _bounded(rule, after + HORIZON)
    first: datetime | None = next(iter(bounded), None)
    if first is None:
        return None
    found: datetime | None = next(iter(bounded.xafter(after, count=None, inc=True)), None)
    if found is None and first < after:
        hint = "delete it in the Prefect UI, or give a later UNTIL or a larger COUNT"
        raise ImpossibleScheduleError(schedule, "is over: it does not fire again", hint=hint, over=True)
    return found


def _check_walk(schedule: RRuleSchedule, rule: rrule, after: datetime) -> None:
    period = _PERIODS.get(rule._freq)
    if period is None:
        return
    start = f"{after.astimezone(UTC):%Y%m%d}T000000"
    hint = f"use an interval or a cron, or begin the rule with DTSTART:{start} and a line break"
    if (after - rule._dtstart) / (period * rule._interval) > LONGEST_WALK or rule._bysetpos:
        found = f"makes Prefect's server stand still while it counts its dates from {rule._dtstart:%Y-%m-%d}"
        raise ImpossibleScheduleError(schedule, found, hint=hint)


def _bounded(rule: rrule | rruleset, until: datetime) -> rrule | rruleset:
    """The same without what comes later: exceptions may leave nothing of a rule that has no end."""
    if isinstance(rule, rrule):
        ends = rule._count is not None or (rule._until is not None and rule._until < until)
        return rule if ends else rule.replace(until=until)
    bounded = rruleset()
    for part in rule._rrule:
        bounded.rrule(_bounded(part, until))
    for part in rule._exrule:
        bounded.exrule(_bounded(part, until))
    for date in rule._rdate:
        bounded.rdate(date)
    for date in rule._exdate:
        bounded.exdate(date)
    return bounded
