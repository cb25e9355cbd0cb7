"""What is asked of a schedule by `ops schedule set`, checked: its times, parameters and rules as they are to be."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow, load_flow_from_entrypoint
from pydantic import TypeAdapter, ValidationError

from cli.run.params import given_ones, parameters, split_assignments
from deployments.server.schedules import RunbookSchedule
from opsdb.errors import UsageError
from opsdb.kinds.kinds import entrypoint_of
from opsdb.near_names import did_you_mean
from opsdb.refusals import refusal
from opsdb.schedules.blackouts import Blackout, read_blackout
from opsdb.schedules.catch_up import CatchUp, read_catch_up
from opsdb.schedules.cron_words import FIVE_FIELDS, check_cron, cron_of, days_field, minute_and_hour
from opsdb.schedules.fires import next_fire
from opsdb.schedules.impossible import ImpossibleScheduleError
from opsdb.schedules.times import Schedule, zone_of
from opsdb.schedules.zones import read_zone
from opsdb.settings import Settings

T = TypeVar("T")

DATABASES = "databases"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was typed after `ops schedule set NAME`."""

    at: str | None = None
    on: str | None = None
    tz: str | None = None
    cron: str | None = None
    add_db: Sequence[str] = ()
    remove_db: Sequence[str] = ()
    params: Sequence[str] = ()
    pause: bool | None = None
    catch_up: str | None = None
    add_blackouts: Sequence[str] = ()
    remove_blackouts: Sequence[str] = ()


def wanted_schedule(current: Schedule, wish: Wish) -> Schedule:
    """When a schedule is to be due. Raises UsageError that names the option."""
    if wish.cron is not None and (wish.at is not None or wish.on is not None):
        raise UsageError("--cron: names time and days itself: leave out --at and --on")
    zone = _option("--tz", wish.tz, read_zone).key if wish.tz else zone_of(current).key
    cron = _wanted_cron(current, wish)
    try:
        if cron is None:
            wanted: Schedule = current.model_copy(update={"timezone": zone})
        else:
            day_or = current.day_or if isinstance(current, CronSchedule) else True
            wanted = CronSchedule(cron=cron, timezone=zone, day_or=day_or)
        if wanted != current:  # what never fires can be paused
            next_fire(wanted, after=datetime.now(UTC))
    except ImpossibleScheduleError as error:
        raise UsageError(f"--cron: {error}") from None
    except ValidationError:
        raise UsageError(f"--cron: {cron!r} is not a cron: {FIVE_FIELDS}") from None
    return wanted


def _wanted_cron(current: Schedule, wish: Wish) -> str | None:
    """The cron that was asked for; None where times stay as they are."""
    if wish.cron is not None:
        _option("--cron", wish.cron, check_cron)
        return wish.cron
    time = None if wish.at is None else _option("--at", wish.at, minute_and_hour)
    days = None if wish.on is None else _option("--on", wish.on, days_field)
    fields = current.cron.split() if isinstance(current, CronSchedule) else []
    if time is None and days is None:
        return None
    if len(fields) != 5:
        if wish.at is None:
            raise UsageError("--on: the schedule has no time of the day: give it with --at")
        return cron_of(wish.at, wish.on or "daily")
    if days is not None and fields[2:4] != ["*", "*"]:
        raise UsageError(f"--on: the schedule names days of months, too ({current.cron!r}): give a whole --cron")  # type: ignore[union-attr]  # a cron
    minute, hour, *others = fields
    if time is not None:
        minute, hour = time.split()
    return " ".join([minute, hour, *others[:2], days or others[2]])


def _option(name: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def wanted_catch_up(current: CatchUp, wish: Wish) -> CatchUp:
    """The rule for what comes too late. Raises UsageError."""
    return current if wish.catch_up is None else _option("--catch-up", wish.catch_up, read_catch_up)


def wanted_parameters(settings: Settings, one: RunbookSchedule, wish: Wish) -> dict[str, Any]:
    """The schedule's own parameters, checked as `ops run` and the run itself check them. Raises UsageError."""
    schema = one.deployment.parameter_openapi_schema or {}
    given = split_assignments(wish.params)
    if wish.add_db or wish.remove_db:
        if DATABASES in given:
            raise UsageError(f"-p {DATABASES}: says all databases: leave out --add-db and --remove-db")
        given[DATABASES] = json.dumps(_wanted_databases(one, schema, wish))
    own = given_ones(one.entry.parameters, schema=schema)
    if not given:
        return own
    values = parameters(given, schema=schema, defaults=one.parameters)
    _check_as_the_run_does(settings, one, {**given_ones(one.parameters, schema=schema), **values})
    return {**own, **values}


def _check_as_the_run_does(settings: Settings, one: RunbookSchedule, values: dict[str, Any]) -> None:
    """Raises UsageError for what the form admits and the runbook refuses."""
    runbook: Flow[..., Any] = load_flow_from_entrypoint(entrypoint_of(one.kind, settings))
    for name, parameter in inspect.signature(runbook.fn).parameters.items():
        if name in values:
            try:
                TypeAdapter(parameter.annotation).validate_python(values[name])
            except ValidationError as error:
                raise UsageError(f"parameter {name}: {refusal(error.errors()[0])}") from None


def _wanted_databases(one: RunbookSchedule, schema: dict[str, Any], wish: Wish) -> list[str]:
    field = (schema.get("properties") or {}).get(DATABASES)
    if field is None:
        raise UsageError(f"--add-db, --remove-db: {one.kind} takes no list of databases; see `ops runbooks {one.kind}`")
    wanted = list(one.parameters.get(DATABASES) or field.get("default") or [])
    for name in wish.add_db:
        if name in wanted:
            raise UsageError(f"--add-db {name!r}: is among them already: {', '.join(wanted)}")
        wanted.append(name)
    for name in wish.remove_db:
        if name not in wanted:
            meant = did_you_mean(name, wanted)
            raise UsageError(f"--remove-db {name!r}: is not among them.{meant} There are: {', '.join(wanted)}")
        wanted.remove(name)
    if not wanted:
        raise UsageError("--remove-db: none would be left. To start nothing: `--pause`")
    return wanted


def wanted_blackouts(current: Sequence[Blackout], wish: Wish, now: datetime) -> tuple[Blackout, ...]:
    """The windows that are to hold; `now` is what the schedule's clocks show. Raises UsageError."""
    wanted = [window for window in current if not window.over(now)]
    for text in wish.remove_blackouts:
        window = _option("--remove-blackout", text, read_blackout)
        if window not in wanted:
            there = "; ".join(map(str, wanted)) or "there are none"
            raise UsageError(f"--remove-blackout {text!r}: is not among them: {there}")
        wanted.remove(window)
    for text in wish.add_blackouts:
        window = _option("--blackout", text, read_blackout)
        if window.over(now):
            raise UsageError(f"--blackout {text!r}: is over already")
        if window not in wanted:
            wanted.append(window)
    return tuple(wanted) if wish.add_blackouts or wish.remove_blackouts else tuple(current)
