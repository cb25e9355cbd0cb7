"""How schedules are shown: a table, remarks on each, and the days to come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from rich.text import Text

from cli.columns import Columns
from cli.schedules.room import Schedules
from cli.text import moment, safe_line, say, show, value_text
from deployments.server.schedules import RunbookSchedule, declared_of, differences
from opsdb.runs.lookup import short_id
from opsdb.schedules.fires import next_fire
from opsdb.schedules.forecast import DueTime, Forecast, forecast
from opsdb.schedules.impossible import ImpossibleScheduleError
from opsdb.schedules.times import Schedule, due_times, when, zone_of

LOOKED_AT = 100
"""How many due times are looked at for the next one that no blackout holds."""
MANY = 4
"""From how many due times a day on they are counted, not listed."""


def document(one: RunbookSchedule, schedules: Schedules, *, days: int) -> dict[str, Any]:
    """A schedule for programs. `forecast` holds its due times, when it is not paused."""
    known, zone, now = schedules.rules_of(one), zone_of(one.schedule), schedules.now
    rules = known.effective
    problem = None
    ahead, following = Forecast(due=(), more=False), None
    if one.runs:
        try:
            ahead = forecast(one.schedule, rules, start=now, days=days)
            coming = due_times(one.schedule, start=now, count=LOOKED_AT)
            following = next((at for at in coming if rules.keeps_back(at, zone) is None), None)
        except ImpossibleScheduleError as error:
            problem = str(error)
    else:
        problem = _never_fires(one.schedule, now)
    declared, _ = declared_of(one, schedules.declared)
    last = schedules.last_of(one)
    wall = now.astimezone(zone).replace(tzinfo=None)
    return {
        "name": one.name,
        "id": one.id,
        "kind": one.kind,
        "deployment": one.full_name,
        "lane": one.lane,
        "when": when(one.schedule),
        "timezone": zone.key,
        "state": one.state,
        "problem": problem,
        "next": following,
        "parameters": one.entry.parameters,
        "last": None
        if last is None
        else {"run": last[0].id, "due_at": last[0].expected_start_time, "status": str(last[1])},
        "catch_up": str(rules.catch_up),
        "catch_up_default": not (known.person.catch_up or known.declared.catch_up),
        "blackouts": [str(window) for window in rules.blackouts if not window.over(wall)],
        "overrides": [
            {
                "starts_at": each.starts_at.astimezone(zone),
                "ends_at": each.ends_at.astimezone(zone),
                "reason": each.reason,
                "by": each.made_by,
                "made_at": each.made_at,
            }
            for each in rules.overrides
            if each.ends_at >= now
        ],
        "declared": declared is not None,
        "differs": differences(one, declared, known) if declared else [],
        "forecast": [_due_document(due) for due in ahead.due],
        "forecast_is_cut": ahead.more,
    }


def _never_fires(schedule: Schedule, now: datetime) -> str | None:
    """Why a schedule that is paused would not fire either: the room pauses such a one itself."""
    try:
        next_fire(schedule, after=now)
    except ImpossibleScheduleError as error:
        return str(error)
    return None


def _due_document(due: DueTime) -> dict[str, Any]:
    return {"at": due.at, "at_utc": due.at.astimezone(UTC), "blackout": due.blackout, "notes": list(due.notes)}


def print_schedules(documents: Sequence[dict[str, Any]], *, days: int, now: datetime) -> None:
    """Show schedules to a person."""
    if not documents:
        say("No runbook has a schedule. `ops deploy` deploys those of prefect.yaml and of templates.")
        return
    table = Columns.of("schedule", "when", "next", "(UTC)", "last run", "state")
    for one in documents:
        table.add(
            safe_line(one["name"]),
            safe_line(f"{one['when']} {one['timezone']}", width=300),
            *_next(one),
            _last(one, now),
            Text(one["state"], style="green" if one["state"] == "active" else "yellow"),
        )
    show(table)
    for one in documents:
        for line, style in _remarks(one):
            say(f"{one['name']}: {safe_line(line, width=500)}", style=style)
    say("")
    show(_days(documents, days=days))
    for one in documents:
        if one["forecast_is_cut"]:
            say(f"{one['name']} has more than {len(one['forecast'])} due times in {days} days: not all are shown")


def print_changes(changes: Sequence[tuple[str, str, str]]) -> None:
    """Show what was changed: what, from which value, to which."""
    for what, before, after in changes:
        say(f"  {what}: {safe_line(before, width=500)} -> {safe_line(after, width=500)}")


def due_line(due: dict[str, Any]) -> str:
    """A due time in its zone and in UTC, with what is to be said of it."""
    at, in_utc = due["at"], due["at_utc"]
    utc = "" if at.utcoffset() == in_utc.utcoffset() else f" ({in_utc:%Y-%m-%d %H:%M} UTC)"
    return "; ".join([f"{at:%a %Y-%m-%d %H:%M} {at.tzinfo}{utc}", *_words(due)])


def _next(one: dict[str, Any]) -> tuple[str, str]:
    """When it starts its next run, by its own clocks, and in UTC where that is another time."""
    at: datetime | None = one["next"]
    if at is None:
        return "none" if one["state"] == "active" else "", ""
    in_utc = at.astimezone(UTC)
    if at.utcoffset() == in_utc.utcoffset():
        return f"{at:%a %m-%d %H:%M} UTC", ""
    return f"{at:%a %m-%d %H:%M}", f"{in_utc:%a %m-%d %H:%M}"


def _last(one: dict[str, Any], now: datetime) -> str:
    last = one["last"]
    if not last:
        return "never"
    return f"{last['status']} {short_id(last['run'])}, {moment(last['due_at'].astimezone(UTC), now)}"


def _remarks(one: dict[str, Any]) -> list[tuple[str, str | None]]:
    default = " (the default)" if one["catch_up_default"] else ""
    found: list[tuple[str, str | None]] = []
    if one["problem"]:
        found.append((f"{one['problem']}. Correct it with `ops schedule set {one['name']} --at 02:00`", "bold red"))
    found.append((f"catch-up {one['catch_up']}{default}", None))
    if one["blackouts"]:
        found.append((f"blackouts: {'; '.join(one['blackouts'])}", None))
    for each in one["overrides"]:
        until = "" if each["starts_at"] == each["ends_at"] else f" to {each['ends_at']:%Y-%m-%d %H:%M}"
        found.append(
            (f"override for {each['starts_at']:%Y-%m-%d %H:%M}{until}, by {each['by']}: {each['reason']}", "cyan")
        )
    if one["parameters"]:
        pairs = (f"{name}={value_text(value)}" for name, value in one["parameters"].items())
        found.append((f"parameters: {', '.join(pairs)}", None))
    if not one["declared"]:
        found.append(("made in the Prefect UI or by command: nothing is declared of it", None))
    if one["differs"]:
        found += [(f"differs: {each}", "yellow") for each in one["differs"]]
        found.append((f"`ops schedule reset {one['name']}` restores what is declared", "yellow"))
    return found


def _days(documents: Sequence[dict[str, Any]], *, days: int) -> Columns:
    """A row for each day, by the clocks of each schedule's own zone."""
    of_day: dict[date, list[tuple[datetime, str]]] = defaultdict(list)
    one_zone = {one["timezone"] for one in documents} == {"UTC"}
    for one in documents:
        own: dict[date, list[dict[str, Any]]] = defaultdict(list)
        for due in one["forecast"]:
            own[due["at"].date()].append(due)
        zone = "" if one_zone else f" {one['timezone']}"
        for day, found in own.items():
            plain = [due for due in found if not _words(due)]
            many = len(plain) >= MANY
            if many:
                times = f"{plain[0]['at']:%H:%M} to {plain[-1]['at']:%H:%M}{zone}"
                of_day[day].append((plain[0]["at_utc"], f"{one['name']}, {len(plain)} times, {times}"))
            for due in [due for due in found if _words(due)] if many else found:
                words = "".join(f"; {word}" for word in _words(due))
                of_day[day].append((due["at_utc"], f"{due['at']:%H:%M}{zone} {one['name']}{words}"))
    table = Columns.of("next day" if days == 1 else f"next {days} days", "due")
    for day in sorted(of_day):
        for number, (_, line) in enumerate(sorted(of_day[day])):
            held = "; blackout" in line and "overridden" not in line
            text = Text(safe_line(line, width=300), style="yellow" if held else "")
            table.add(f"{day:%a %Y-%m-%d}" if number == 0 else "", text)
    if not of_day:
        table.add("", "nothing is due")
    return table


def _words(due: dict[str, Any]) -> list[str]:
    held = [f"blackout {due['blackout']}, starts nothing"] if due["blackout"] else []
    return [*held, *due["notes"]]
