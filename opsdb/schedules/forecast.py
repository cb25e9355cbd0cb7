"""What a schedule will do in the days that come: its due times, blackouts, and nights in which clocks change. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from prefect.client.schemas.schedules import IntervalSchedule

from opsdb.schedules.rules import ScheduleRules
from opsdb.schedules.times import MOST, Schedule, clocks_change, due_times, on_plain_clocks, zone_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTime:
    """One due time that is ahead. `at` is in the schedule's zone; `notes` are sentences about it without their end."""

    at: datetime
    blackout: str | None = None
    """The window because of which nothing starts."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The due times of a schedule, in order. `more` says that there are more than can be listed."""

    due: tuple[DueTime, ...]
    more: bool


def forecast(schedule: Schedule, rules: ScheduleRules, *, start: datetime, days: float) -> Forecast:
    """The due times of the next days, as Prefect will plan them. Raises NeverDueError."""
    end = start.astimezone(UTC) + timedelta(days=days)  # days of 24 hours, also where clocks change
    zone = zone_of(schedule)
    found = due_times(schedule, start=start, end=end)
    notes = _notes_on_clocks(schedule, found, zone) if found else {}
    due = [_due_time(at, rules, zone, notes.get(at.astimezone(UTC), ())) for at in found]
    return Forecast(due=tuple(due), more=len(found) == MOST)


def _due_time(at: datetime, rules: ScheduleRules, zone: ZoneInfo, notes: tuple[str, ...]) -> DueTime:
    due = DueTime(at=at, notes=notes)
    window = rules.blackout_at(at, zone)
    if window is None:
        return due
    override = rules.override_at(at)
    if override is None:
        return replace(due, blackout=str(window))
    return replace(due, notes=(*notes, f"blackout {window} overridden by {override.made_by}: {override.reason}"))


def _notes_on_clocks(schedule: Schedule, found: list[datetime], zone: ZoneInfo) -> dict[datetime, tuple[str, ...]]:
    """What clocks that change make of due times, by their moment in UTC."""
    notes: dict[datetime, tuple[str, ...]] = {}
    if not clocks_change(zone, found[0] - timedelta(days=1), found[-1]):
        return notes
    moments = {at.astimezone(UTC) for at in found}
    for at in found:
        other = at.replace(fold=1 - at.fold)
        if other.utcoffset() != at.utcoffset() and _exists(_wall(at), zone):
            which = "second" if at.fold else "first"
            only = "" if other.astimezone(UTC) in moments else " only"
            notes[at.astimezone(UTC)] = (f"the clocks show {at:%H:%M} twice that day: due the {which} time{only}",)
    wanted = _wanted(schedule, found)
    moved = [at for at in found if _wall(at) not in wanted]
    for wall in sorted(wanted - set(map(_wall, found))):
        if _exists(wall, zone):
            continue
        shown = wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)  # what clocks show that were not set on
        instead = next((at for at in moved if abs(_wall(at) - wall) < timedelta(hours=3)), None) or (
            shown if shown.astimezone(UTC) in moments else None
        )
        at = instead or min(found, key=lambda at: abs(_wall(at) - wall))
        due = f"due at {instead:%H:%M} instead" if instead else "left out"
        said = f"{wall:%H:%M} does not exist that day, the clocks skip it: {due}"
        notes[at.astimezone(UTC)] = (*notes.get(at.astimezone(UTC), ()), said)
    return notes


def _wanted(schedule: Schedule, found: list[datetime]) -> set[datetime]:
    """What the clocks ought to show at the due times, were they not changed."""
    plain = on_plain_clocks(schedule)
    if plain is not None:
        first, last = (_wall(at).replace(tzinfo=UTC) for at in (found[0], found[-1]))
        around = timedelta(hours=3)
        return {_wall(at) for at in due_times(plain, start=first - around, end=last + around)}
    assert isinstance(schedule, IntervalSchedule)  # noqa: S101  # of the three kinds of schedules
    if schedule.interval % timedelta(days=1):
        return set(map(_wall, found))  # it counts hours, whatever clocks show
    return {_wall(found[0]), *(_wall(at) + schedule.interval for at in found[:-1])}


def _wall(at: datetime) -> datetime:
    """What the clock on the wall shows."""
    return at.replace(tzinfo=None, fold=0)


def _exists(wall: datetime, zone: ZoneInfo) -> bool:
    return _wall(wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)) == wall
