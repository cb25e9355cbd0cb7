"""Changes of schedules: all that was asked for is checked before anything of it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cli.account import account
from cli.schedules.room import Schedules
from cli.schedules.wanted import Wish, wanted_blackouts, wanted_catch_up, wanted_parameters, wanted_schedule
from cli.text import value_text
from deployments.server.schedules import (
    RunbookSchedule,
    change_schedule,
    declared_of,
    when_and_where,
)
from deployments.server.when import is_when, when_of
from flows.backup.database import Database
from opsdb.database import writing
from opsdb.errors import PreflightError, UsageError
from opsdb.schedules.blackouts import YEARS, Blackout
from opsdb.schedules.catch_up import CatchUp
from opsdb.schedules.store import add_override, forget_person, write_person
from opsdb.schedules.times import Schedule, due_times, zone_of
from opsdb.settings import Settings

Change = tuple[str, str, str]
"""What was changed, from which value, to which, in words."""
DATABASES = "databases"
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d{1,2}:\d\d)")


def apply_wish(settings: Settings, schedules: Schedules, one: RunbookSchedule, wish: Wish) -> list[Change]:
    """Change a schedule. Returns what is other than before. Raises UsageError before anything is written."""
    known = schedules.rules_of(one)
    wanted = wanted_schedule(one.schedule, wish)
    given = wanted_parameters(settings, one, wish)
    for name in wish.add_db:
        _check_there(settings, name)
    catch_up = wanted_catch_up(known.effective.catch_up, wish)
    now = schedules.now.astimezone(zone_of(wanted)).replace(tzinfo=None)
    blackouts = wanted_blackouts(known.effective.blackouts, wish, now)
    changes = _changes(one, wanted, given, one.entry.active if wish.pause is None else not wish.pause)
    rules = _rule_changes(known.effective.catch_up, catch_up, known.effective.blackouts, blackouts)
    if not changes and not rules:
        return []
    with writing(settings, application="cli") as db:
        if rules:
            write_person(
                db,
                one.id,
                catch_up=catch_up if wish.catch_up is not None else known.person.catch_up,
                blackouts=blackouts if wish.add_blackouts or wish.remove_blackouts else known.person.blackouts,
                by=account(),
            )
        if changes:  # before the commit: neither is written without the other, unless a connection breaks in between
            _write(schedules, one, wanted, given, None if wish.pause is None else not wish.pause)
    return [*changes, *rules]


def _check_there(settings: Settings, database: str) -> None:
    """Raises UsageError, which names the nearest ones, for a database that cannot be backed up: it does not exist."""
    try:
        with Database(database, settings.odoo_url).connect():
            pass
    except PreflightError as error:
        raise UsageError(f"--add-db: {error}") from None


def reset_schedule(settings: Settings, schedules: Schedules, one: RunbookSchedule) -> list[Change]:
    """Set a schedule to what is declared of it. Returns what is other than before. UsageError when nothing is."""
    declared, _ = declared_of(one, schedules.declared)
    if declared is None:
        raise UsageError(
            f"nothing is declared of {one.name}: it was made in the Prefect UI or by command. "
            "It can be changed with `ops schedule set`, and deleted in the UI"
        )
    known = schedules.rules_of(one)
    active, given = declared.active is not False, dict(declared.parameters or {})
    changes = _changes(one, declared.schedule, given, active)
    said = type(known)(declared=known.declared).effective
    rules = _rule_changes(known.effective.catch_up, said.catch_up, known.effective.blackouts, said.blackouts)
    with writing(settings, application="cli") as db:
        forget_person(db, one.id)
        if changes:
            _write(schedules, one, declared.schedule, given, active)
    over = [
        (f"override for {each.starts_at:%Y-%m-%d %H:%M %Z}", each.reason, "none") for each in known.effective.overrides
    ]
    return [*changes, *rules, *over]


def make_override(
    settings: Settings, schedules: Schedules, one: RunbookSchedule, *, at: str, reason: str
) -> list[datetime]:
    """Let due times start within a blackout. Returns those that it frees. Raises UsageError where it frees none."""
    if not reason.strip():
        raise UsageError("--reason: must not be empty: it is what others read of it")
    zone = zone_of(one.schedule)
    first, _, last = at.partition(" to ")
    starts_at = _moment(first, zone)
    ends_at = _moment(last, zone) if last else starts_at
    if ends_at < starts_at:
        raise UsageError(f"--at {at!r}: it ends before it begins")
    if ends_at < schedules.now:
        raise UsageError(f"--at {at!r}: is over. To run the same now: `ops run {one.kind}`, see `ops runbooks`")
    rules = schedules.rules_of(one).effective
    due = due_times(one.schedule, start=starts_at, end=ends_at + timedelta(seconds=59))
    if not due:
        soon = due_times(one.schedule, start=max(schedules.now, starts_at - timedelta(days=1)), count=3)
        named = ", ".join(f"{each:%Y-%m-%d %H:%M}" for each in soon) or "there are none"
        raise UsageError(f"--at {at!r}: {one.name} is not due then ({zone.key}); near it: {named}")
    freed = [each for each in due if rules.blackout_at(each, zone) is not None]  # that one is overridden does no harm
    if not freed:
        windows = "; ".join(map(str, rules.blackouts)) or "it has none"
        raise UsageError(f"--at {at!r}: no blackout of {one.name} holds {due[0]:%Y-%m-%d %H:%M} ({windows})")
    with writing(settings, application="cli") as db:
        add_override(
            db, one.id, starts_at=starts_at, ends_at=max(ends_at, due[-1]), reason=reason.strip(), by=account()
        )
    return freed


def _changes(one: RunbookSchedule, wanted: Schedule, given: dict[str, Any], active: bool) -> list[Change]:
    found = []
    if not is_when(one.schedule, when_of(wanted)):
        found.append(("when", when_and_where(one.schedule), when_and_where(wanted)))
    for name in sorted({*one.entry.parameters, *given}):
        had, wants = (_value(one, name, each) for each in (one.entry.parameters, given))
        if had != wants:
            found.append((name, had, wants))
    if active != one.entry.active:
        found.append(("state", "active", "paused") if one.entry.active else ("state", "paused", "active"))
    return found


def _value(one: RunbookSchedule, name: str, given: Mapping[str, Any]) -> str:
    """A parameter in words: as the schedule gives it, else as its runs have it then."""
    if name in given:
        return _words(given[name])
    properties = (one.deployment.parameter_openapi_schema or {}).get("properties") or {}
    default = (one.deployment.parameters or {}).get(name, properties.get(name, {}).get("default"))
    return "not set" if default is None else f"{_words(default)} (the default)"


def _words(value: Any) -> str:
    words = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return ", ".join(value) if words else value_text(value)


def _rule_changes(
    had: CatchUp, wants: CatchUp, windows: Sequence[Blackout], wanted: Sequence[Blackout]
) -> list[Change]:
    found = [] if had == wants else [("catch-up", str(had), str(wants))]
    if list(windows) != list(wanted):
        before, after = ("; ".join(map(str, each)) or "none" for each in (windows, wanted))
        found.append(("blackouts", before, after))
    return found


def _write(
    schedules: Schedules, one: RunbookSchedule, wanted: Schedule, given: dict[str, Any], active: bool | None
) -> None:
    change_schedule(
        schedules.client,
        one,
        schedule=None if is_when(one.schedule, when_of(wanted)) else wanted,
        parameters=None if given == one.entry.parameters else given,
        active=None if active == one.entry.active else active,
    )


def _moment(text: str, zone: ZoneInfo) -> datetime:
    found = _MOMENT.fullmatch(text.strip())
    try:
        if found and int(found[1][:4]) in YEARS:
            return datetime.fromisoformat(f"{found[1]} {found[2]:0>5}").replace(tzinfo=zone)
    except ValueError:
        pass
    raise UsageError(f"--at {text!r}: is not a time: expected date and time, as in 2026-12-25T02:00")
