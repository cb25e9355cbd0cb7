"""When a schedule plans its runs, as a file says it (`cron`, `interval` in seconds, `rrule`) and as Prefect has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule

from opsdb.schedules.times import Schedule

_SCHEDULES: dict[str, type[Schedule]] = {
    "cron": CronSchedule,
    "interval": IntervalSchedule,
    "rrule": RRuleSchedule,
}


def schedule_of(when: Mapping[str, Any]) -> Schedule:
    """As Prefect has it. Raises ValueError."""
    kinds = [kind for name, kind in _SCHEDULES.items() if name in when]
    if len(kinds) != 1:
        raise ValueError("expected one of cron, interval and rrule")
    return kinds[0].model_validate(when)


def when_of(schedule: SCHEDULE_TYPES) -> dict[str, Any]:
    """As a file would say it, but for the anchor of an interval, which Prefect adds."""
    said = schedule.model_dump(mode="json", exclude_none=True, exclude={"anchor_date"})
    return {name: value for name, value in said.items() if (name, value) != ("day_or", True)}


def is_when(schedule: SCHEDULE_TYPES, when: Mapping[str, Any]) -> bool:
    """Whether what Prefect has is what a file says."""
    try:
        said = schedule_of(when)
    except ValueError:  # of an earlier version
        return False
    return _moments(schedule, of=said) == _moments(said, of=said)


def _moments(schedule: SCHEDULE_TYPES, *, of: SCHEDULE_TYPES) -> dict[str, Any]:
    """What says when, without what Prefect adds where `of` says nothing: the day on which it was created."""
    found = schedule.model_dump(mode="json")
    if "anchor_date" not in of.model_fields_set:
        found.pop("anchor_date", None)
    if isinstance(of, RRuleSchedule) and not of.rrule.startswith("DTSTART"):
        found["rrule"] = str(found.get("rrule")).rpartition("\n")[2]
    return found | {"timezone": found.get("timezone") or "UTC"}
