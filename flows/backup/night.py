"""A night of backups: what becomes of each database next. Pure: whoever asks says what time it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from opsdb.runs.lookup import short_id
from opsdb.states import TRIED_AGAIN_WITHIN, RunStatus, State

LONGEST = timedelta(hours=7)
"""More than a backup may take by its own deadline."""
NAMED = 5
"""How many databases a sentence names."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The time in which a night tries to back up what failed. Pauses are shorter where less is allowed."""

    begun_at: datetime
    due_at: datetime | None
    """When its schedule wanted it; None when somebody asked for it."""
    allowed: timedelta

    @property
    def ends_at(self) -> datetime:
        """When nothing is tried again. A night that a person tries again the next morning has its time from then."""
        due_at = self.due_at or self.begun_at
        return (due_at if self.begun_at <= due_at + self.allowed else self.begun_at) + self.allowed

    def paused_until(self, paused_at: datetime) -> datetime:
        """How long a backup is waited for that somebody paused then, in Prefect: no deadline of its own ends it."""
        return max(self.ends_at, paused_at) + LONGEST

    def try_again_at(self, failed_at: datetime) -> datetime:
        """When a backup is tried again that failed then: after as long as the night has lasted, 5 to 30 minutes."""
        shortest, longest = min(timedelta(minutes=5), self.allowed / 24), min(timedelta(minutes=30), self.allowed / 4)
        return failed_at + min(max(failed_at - self.begun_at, shortest), longest)

    def look_again_at(self, now: datetime, *, started_at: datetime) -> datetime:
        """When to look again at a backup that is not over: after 10 s at first, later every 5 minutes."""
        shortest = min(timedelta(seconds=10), self.allowed / 30)
        return now + min(max((now - started_at) / 2, shortest), timedelta(minutes=5))


@dataclass(frozen=True, kw_only=True)
class Try:
    """A run that backs up a database for the night, with its latest state. The first one has the number 1."""

    number: int
    run_id: UUID
    started_at: datetime
    """When the night had it started."""
    state: State
    set_to_completed: bool = False
    """Whether it failed, and somebody set it to Completed in Prefect since: that makes no backup."""

    @property
    def good(self) -> bool:
        """Whether it made a verified backup."""
        return self.state.status is RunStatus.SUCCEEDED and not self.set_to_completed

    @property
    def error(self) -> str:
        """Why it failed, in one line."""
        if self.set_to_completed:
            return "somebody set it to Completed in Prefect since, which makes no backup"
        message = (self.state.message or "").removeprefix("Flow run encountered an exception: ")
        return " ".join(message.split()) or self.state.name


class Todo(Enum):
    """What a night does about a database."""

    NOTHING = auto()
    """It is backed up."""
    WAIT = auto()
    """Its backup is not over."""
    TRY_LATER = auto()
    TRY_NOW = auto()
    GIVE_UP = auto()


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a night does about one database."""

    database: str
    todo: Todo
    at: datetime
    """When to look at it again, for WAIT and TRY_LATER."""
    latest: Try | None
    """The try that says so."""
    reason: str = ""
    """Why it is not backed up, where its latest try failed, or there will be none."""

    @property
    def outcome(self) -> dict[str, Any]:
        """How it was backed up, for the result of a night; empty in a dry run."""
        if self.latest is None:
            return {}
        return {"run": str(self.latest.run_id), "outcome": self.latest.state.status.value, "tries": self.latest.number}


def outlook(database: str, tries: Iterable[Try], *, window: Window, now: datetime) -> Outlook:
    """What to do about a database after these tries."""
    ordered = sorted(tries, key=lambda each: each.number)
    good = next((each for each in ordered if each.good), None)
    latest = good or (ordered[-1] if ordered else None)

    def todo(what: Todo, *, at: datetime = now, reason: str = "") -> Outlook:
        return Outlook(database=database, todo=what, at=at, latest=latest, reason=reason)

    if good is not None:
        return todo(Todo.NOTHING)
    if latest is None:
        late = f"it was not started before {_minute(window.ends_at)}"
        return todo(Todo.TRY_NOW) if now < window.ends_at else todo(Todo.GIVE_UP, reason=late)
    state = latest.state
    run, since = f"run {short_id(latest.run_id)}", f"{state.at:%Y-%m-%d %H:%M} UTC"
    dying = state.type == "CRASHED" and now < state.at + TRIED_AGAIN_WITHIN
    held = state.type == "PAUSED" and now >= window.paused_until(state.at)
    if dying or not (state.status.terminal or held):
        at = window.look_again_at(now, started_at=latest.started_at)
        return todo(Todo.WAIT, at=min(at, state.at + TRIED_AGAIN_WITHIN) if dying else at)
    cancelled = state.status is RunStatus.CANCELLED and state.at >= window.begun_at  # else somebody asks for it again
    if held or cancelled:
        paused = f"{run} is paused in Prefect since {since}, and may still resume: ops cancel {short_id(latest.run_id)}"
        return todo(Todo.GIVE_UP, reason=paused if held else f"{run} was cancelled, so it is not tried again")
    reason = f"{run} failed: {latest.error}"
    at = window.try_again_at(state.at)
    if max(at, now) >= window.ends_at:
        return todo(Todo.GIVE_UP, reason=reason)
    return todo(Todo.TRY_NOW, reason=reason) if now >= at else todo(Todo.TRY_LATER, at=at, reason=reason)


def why_wait(found: Sequence[Outlook]) -> str:
    """Why a night is not over, in a sentence without its end."""
    parts = []
    if waiting := [each.database for each in found if each.todo is Todo.WAIT]:
        what, are = ("backup", "is") if len(waiting) == 1 else ("backups", "are")
        parts.append(f"the {what} of {named(waiting)} {are} not over")
    if later := [each for each in found if each.todo is Todo.TRY_LATER]:
        first = min(each.at for each in later)
        parts.append(f"{named([each.database for each in later])} failed, tried again at {_minute(first)}")
    return "; ".join(parts)


def not_backed_up(found: Sequence[Outlook], *, of: int, again: str) -> str:
    """The error of a night that could not back up some of its databases: what is wrong with each, and what to do."""
    reasons = "; ".join(f"{each.database}: {each.reason}" for each in found)
    return f"{len(found)} of {of} databases not backed up: {reasons}\nTo back up what failed now: {again}"


def named(databases: Sequence[str]) -> str:
    """The databases in a sentence: all of few."""
    more = len(databases) - NAMED
    return ", ".join(databases[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _minute(at: datetime) -> str:
    at += timedelta(seconds=1) - timedelta(microseconds=at.microsecond or 1_000_000)  # as a run's wait is rounded
    return f"{at:%H:%M:%S} UTC" if at.second else f"{at:%H:%M} UTC"
