"""What becomes of a tick: a due time of a schedule, when a worker is about to start its run. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from opsdb.schedules.blackouts import Blackout
from opsdb.schedules.catch_up import DEFAULT, GRACE, CatchUp, Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Leave to start within blackouts, from one moment to another, both included."""

    starts_at: datetime
    ends_at: datetime
    reason: str
    made_by: str
    made_at: datetime

    def covers(self, due_at: datetime) -> bool:
        """Whether it lets this due time begin."""
        return self.starts_at <= due_at <= self.ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRules:
    """The rules of one schedule that are the room's own: Prefect knows nothing of them."""

    catch_up: CatchUp = DEFAULT
    blackouts: tuple[Blackout, ...] = ()
    overrides: tuple[Override, ...] = ()

    def blackout_at(self, due_at: datetime, zone: ZoneInfo) -> Blackout | None:
        """The window that a due time falls into, overridden or not."""
        wall = due_at.astimezone(zone).replace(tzinfo=None)
        return next((window for window in self.blackouts if window.holds(wall)), None)

    def override_at(self, due_at: datetime) -> Override | None:
        """The override that covers a due time."""
        return next((one for one in self.overrides if one.covers(due_at)), None)

    def keeps_back(self, due_at: datetime, zone: ZoneInfo) -> Blackout | None:
        """The window because of which a due time starts nothing; None where there is none, or an override."""
        return None if self.override_at(due_at) else self.blackout_at(due_at, zone)


class TickEnd(StrEnum):
    """How a tick ends that is not executed: the name of its run's state."""

    MISSED = "Missed"
    """It came too late, and somebody must be alerted: the run fails."""
    SKIPPED = "Skipped"
    SUPERSEDED = "Superseded"
    BLACKOUT = "Blackout"

    @property
    def is_failure(self) -> bool:
        """Whether the run fails. The others are cancelled, without an alert."""
        return self is TickEnd.MISSED


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a tick: it is executed when `end` is None. `message` is for people, and may be empty then."""

    end: TickEnd | None
    message: str = ""


def is_missed(due_at: datetime, now: datetime) -> bool:
    """Whether a tick begins later than it may."""
    return now - due_at > GRACE


def wants_newer(due_at: datetime, now: datetime, rules: ScheduleRules) -> bool:
    """Whether `judge` has to know of newer ticks."""
    return rules.catch_up.mode is Mode.ONCE and is_missed(due_at, now)


def judge(
    due_at: datetime, *, zone: ZoneInfo, now: datetime, rules: ScheduleRules, newer: Iterable[datetime], by_hand: str
) -> Verdict:
    """What becomes of the tick that was due then.

    `newer` are the later due times of the same schedule that have come and that nobody cancelled; `by_hand` is the
    command that runs the same now.
    """
    local = due_at.astimezone(zone)
    due = f"{due_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if window := rules.blackout_at(due_at, zone):
        override = rules.override_at(due_at)
        if override is None:
            where = f"{local:%a %Y-%m-%d %H:%M} ({zone.key}) falls into {window}"
            return Verdict(TickEnd.BLACKOUT, f"blackout: {where}. To run it all the same: {by_hand}")
        overridden = f"blackout {window} overridden by {override.made_by}: {override.reason}"
    else:
        overridden = ""
    if not is_missed(due_at, now):
        return Verdict(None, overridden)
    minutes = int((now - due_at).total_seconds() // 60)
    late = f"due at {due}, and it is {minutes} minutes later"
    rule = rules.catch_up
    if rule.mode is Mode.SKIP:
        return Verdict(TickEnd.SKIPPED, f"missed: {late}. Catch-up is `skip`. To run the same now: {by_hand}")
    if rule.mode is Mode.ONCE:
        later = [at for at in newer if at > due_at and rules.keeps_back(at, zone) is None]
        if later:
            by = f"{max(later).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            return Verdict(TickEnd.SUPERSEDED, f"missed: {late}. Superseded by the one due at {by}")
        if now - due_at > rule.within:
            allowed = _minutes(rule.within)
            reason = f"missed: {late}, where {allowed} are allowed (catch-up: {rule})"
            return Verdict(TickEnd.MISSED, f"{reason}. To run the same now: {by_hand}")
    caught = f"caught up: {late} (catch-up: {rule})"
    return Verdict(None, f"{caught}; {overridden}" if overridden else caught)


def _minutes(length: timedelta) -> int:
    return int(length.total_seconds() // 60)
