"""How Prefect's states become the status of a run. Pure: no clock, no database.

A run's row is a fold over the states that were reported of it. The fold does not depend on the order in which the
reports arrive, nor on how often: that is what lets the worker, the run process and the sync all report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class RunStatus(StrEnum):
    """The status of a run."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the run is over."""
        return self in TERMINAL

    @property
    def told(self) -> str:
        """The end of a sentence about a run, as `has succeeded` or `is running`."""
        return f"{'was' if self == 'cancelled' else 'has' if self.terminal else 'is'} {self}"


TERMINAL = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})

STATUS_OF_PREFECT = {
    "SCHEDULED": RunStatus.QUEUED,
    "PENDING": RunStatus.CLAIMED,
    "RUNNING": RunStatus.RUNNING,
    "CANCELLING": RunStatus.RUNNING,
    "PAUSED": RunStatus.RUNNING,
    "COMPLETED": RunStatus.SUCCEEDED,
    "FAILED": RunStatus.FAILED,
    "CRASHED": RunStatus.FAILED,
    "CANCELLED": RunStatus.CANCELLED,
}

CLAIMED_BY = "claimed by "
"""How the message of a Pending state begins that names the worker: the claim and its owner are one fact."""
APPROVAL = "waits for approval"
"""How the message of a Paused state begins that a run's own process asked for: nothing of it runs until it resumes. A
run that somebody suspends from outside keeps running."""
NEVER_RESUMED = re.compile(r"The flow was \w+ and never resumed\.")
"""Prefect's message of the Failed state that comes when nobody approved a run in time, or when somebody came late."""
POSTPONED = "waits until "
"""How the message of a Scheduled state begins with which a run ended its own process: it starts again at that time.
The name stays Prefect's own, so that Prefect marks it as late when nobody takes it then."""
_POSTPONED_UNTIL = re.compile(rf"{POSTPONED}(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d) UTC: ")
DIED = "died; its processes are gone"
"""How the message of a Scheduled state ends with which the room itself has a run executed again."""
PUT_BACK = "put back into its queue: "
"""How the message of a Scheduled state begins with which the room has a run wait again of which nothing ran, though
somebody had set Running."""
AWAITS_SLOT = "AwaitingConcurrencySlot"
"""Prefect's name of the Scheduled state of a run whose deployment executes all that it may. It is tried again soon."""
SWITCHED_OFF = "SwitchedOff"
"""The name of the Cancelled state of a run that waited while its kind was switched off."""
RESUMING = "Resuming"
"""Prefect's name of the Scheduled state with which a run resumes: what succeeded before is not done again."""


class FenceReason(StrEnum):
    """Why a run is taken from its process. The state with which it ends is called so, unless its outcome is known."""

    HEARTBEAT_TIMEOUT = "HeartbeatTimeout"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    CLAIM_TIMEOUT = "ClaimTimeout"
    CANCELLED = "Cancelled"


NOT_TRIED_AGAIN = (FenceReason.DEADLINE_EXCEEDED, "Refused")
"""Ends after which another attempt would end the same way."""
TRIED_AGAIN_WITHIN = timedelta(minutes=1)
"""How long after a death the next attempt may take to be asked for. After that something is wrong with the room."""
REQUEUE_WITHIN = timedelta(hours=1)
"""How long after a death the next attempt is asked for at all: Prefect, or the host of the run, was away until then."""


@dataclass(frozen=True, kw_only=True)
class State:
    """One state of a run. `id` and `at` are Prefect's own; `at` comes from its server's clock."""

    id: UUID
    at: datetime
    type: str
    name: str
    message: str | None = None
    source: str = "prefect"
    due_at: datetime | None = None
    """Before when nobody is to start it; None where that is not known, or where it is due already."""

    @property
    def status(self) -> RunStatus:
        """What this state means for the run."""
        return RunStatus.QUEUED if self.waits_for_approval else STATUS_OF_PREFECT[self.type]

    @property
    def waits_for_approval(self) -> bool:
        """Whether the run ended its process to wait until somebody approves of what comes next."""
        return self.type == "PAUSED" and (self.message or "").startswith(APPROVAL)

    @property
    def held(self) -> bool:
        """Whether somebody paused or suspended the run from outside. A run that has started continues all the same."""
        return self.type == "PAUSED" and not self.waits_for_approval

    @property
    def postponed_until(self) -> datetime | None:
        """When a run starts again that ended its process until then; None for every other state."""
        found = _POSTPONED_UNTIL.match(self.message or "") if self.type == "SCHEDULED" else None
        try:
            return datetime.fromisoformat(f"{found[1]}+00:00") if found else None
        except ValueError:
            return None

    @property
    def puts_back(self) -> bool:
        """Whether the room said with this state that nothing ran since the run was to start."""
        return self.type == "SCHEDULED" and (self.message or "").startswith(PUT_BACK)

    @property
    def approving(self) -> str:
        """Who approved with this state, for people: the UI has but one password, and leaves no message."""
        return self.message or "approved in Prefect's UI or over its API"

    @property
    def claimed_by(self) -> str | None:
        """The worker that claimed the run with this state."""
        if self.status is not RunStatus.CLAIMED or not (self.message or "").startswith(CLAIMED_BY):
            return None
        return (self.message or "").removeprefix(CLAIMED_BY) or None


@dataclass(frozen=True, kw_only=True)
class Disregarded:
    """A state that changes nothing, since it contradicts what the run did: it works, or is over."""

    state: State
    status: RunStatus
    """What the run was, and remained."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """What the states of a run, taken together, say of it."""

    latest: State
    status: RunStatus
    attempt: int
    claimed_by: str | None
    claimed_at: datetime | None
    due_at: datetime | None
    """When the run was to start that waits or has started: a person, a schedule or the run itself chose the time. None
    where nobody did. That its deployment has no slot then does not move it."""
    started_at: datetime | None
    finished_at: datetime | None
    continues: bool
    """Whether this attempt keeps what succeeded before."""
    begun_at: datetime | None
    """When the first attempt started since a person or a schedule asked for the run; a later one of the room's own, or
    after the run had postponed itself, changes nothing."""
    base: int
    """The attempt that began with the first step: what came after it, up to this one, resumed from there."""
    crashes: int
    """How many attempts ended by the death of their process or their worker."""
    approval: State | None
    """With which state somebody approved this attempt."""
    end: State | None
    """With which state the attempt ended; None while it has not."""
    disregarded: tuple[Disregarded, ...]
    """What somebody set by hand in Prefect and what changes nothing, oldest first."""

    @property
    def began_again_by_itself(self) -> bool:
        """Whether the room started this attempt after a death, from the first step, and nobody asked for it."""
        return not self.continues and self.begun_at is not None and self.begun_at != self.started_at


def postponed_message(until_at: datetime, reason: str) -> str:
    """The message of the Scheduled state of a run that starts again at that time."""
    return f"{POSTPONED}{until_at:%Y-%m-%d %H:%M:%S} UTC: {reason}"


def in_order(states: Iterable[State]) -> list[State]:
    """The states in the order in which they came to be; ties end the same way everywhere."""
    return sorted(states, key=lambda state: (state.at, state.status.terminal, str(state.id)))


def fold(states: Iterable[State]) -> Life:
    """Tell the life of a run from all that was reported of it.

    A new attempt begins with the first state that waits for a start after an attempt that had started or ended. The
    times are those of the latest attempt. An approval goes over to the next attempt only when nothing but a death came
    between it and the start. Raises ValueError without states.

    What somebody sets by hand changes what can be changed so (decision 31): an attempt that has started is ended, or
    continues; one that is over begins again with a Scheduled state, or stays over; and nothing succeeds that never
    started.
    """
    ordered = in_order({state.id: state for state in states}.values())
    if not ordered:
        raise ValueError("a run without states has no life")
    attempt, base, crashes, status = 1, 1, 0, RunStatus.QUEUED
    claimed_by, claimed_at, started_at, end = None, None, None, None
    continues, approval, begun_at, due_at = False, None, None, None
    disregarded: list[Disregarded] = []
    for before, state in zip([None, *ordered], ordered, strict=False):
        resumes = state.type == "SCHEDULED" and state.name == RESUMING
        working = started_at is not None and end is None
        if not _counts(state, status, working=working):
            if _contradicts(state, status):
                disregarded.append(Disregarded(state=state, status=status))
            continue
        if end is not None and state.type == end.type and disregarded and disregarded[-1].state is before:
            continue  # Prefect hears again how the run had ended
        if state.puts_back:  # what began before the start that did not happen stands
            begun_at = None if begun_at == started_at else begun_at
            started_at, claimed_by, claimed_at = None, None, None
        status = _status(state, nothing_ran=started_at is None and claimed_by is None and before is not None)
        if status in (RunStatus.QUEUED, RunStatus.CLAIMED) and (started_at is not None or end is not None):
            crashed = end is not None and end.type == "CRASHED"
            if started_at is not None or not crashed:
                approval = None
            attempt, crashes = attempt + 1, crashes + crashed
            begun_at = None if end is not None and not (state.message or "").endswith(DIED) else begun_at
            claimed_by, claimed_at, started_at, end, continues = None, None, None, None, False
        if status is RunStatus.QUEUED and state.name != AWAITS_SLOT:
            due_at = state.due_at
        if resumes:
            continues = True
            approval = state if before is not None and before.waits_for_approval else approval
        end = state if status.terminal else end
        claimed_by = state.claimed_by or claimed_by
        if status is RunStatus.CLAIMED and claimed_at is None:
            claimed_at = state.at
        elif state.type == "RUNNING" and started_at is None:
            started_at, base = state.at, base if continues else attempt
            begun_at = begun_at or state.at
    return Life(
        latest=ordered[-1],
        status=status,
        attempt=attempt,
        claimed_by=claimed_by,
        claimed_at=claimed_at,
        due_at=due_at,
        started_at=started_at,
        finished_at=end.at if end else None,
        continues=continues,
        begun_at=begun_at,
        base=base,
        crashes=crashes + (end is not None and end.type == "CRASHED"),
        approval=approval if continues else None,
        end=end,
        disregarded=tuple(disregarded),
    )


def _counts(state: State, status: RunStatus, *, working: bool) -> bool:
    """Whether a state changes what the run is. That it is to be cancelled does not, until it is."""
    if state.type == "CANCELLING":
        return False
    if status.terminal:  # only what waits for a start begins again
        return state.status.terminal or state.type == "SCHEDULED"
    if working:  # its process decides when it waits, and for what
        waits = state.waits_for_approval or state.postponed_until is not None or state.puts_back
        return state.status.terminal or waits
    return not (state.type == "SCHEDULED" and state.name == RESUMING and status is RunStatus.CLAIMED)


def _contradicts(state: State, status: RunStatus) -> bool:
    """Whether a state that changes nothing says something else than the run does."""
    if status.terminal:
        return True
    return state.type not in ("CANCELLING", "RUNNING") and state.name != RESUMING


def _status(state: State, *, nothing_ran: bool) -> RunStatus:
    """What a state makes of the run, of whose attempt `nothing_ran`, as far as is known."""
    if state.held:
        return RunStatus.QUEUED
    if state.type == "COMPLETED" and nothing_ran:
        return RunStatus.CANCELLED
    return state.status
