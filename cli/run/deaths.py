"""A run that is followed and whose process died: whether that is its end, or the room tries it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import reading, short_id
from opsdb.runs.retries import read_retries
from opsdb.runs.runs import recorded_states
from opsdb.settings import Settings
from opsdb.states import TRIED_AGAIN_WITHIN, State, fold

DECISION_SECONDS = 3.0
"""How long after a death may still be recorded how often the run may be tried."""


class Ended(Protocol):
    """A state of a run, of Prefect's or as it is recorded."""

    @property
    def id(self) -> UUID:
        """Its own."""

    @property
    def type(self) -> str:
        """Prefect's type of it."""


@dataclass(kw_only=True)
class Deaths:
    """The deaths of one run, as whoever follows it sees them."""

    settings: Settings
    run_id: UUID
    clock: Callable[[], float] = time.monotonic
    overdue: bool = False
    """Whether the run was to be tried again after its latest death, or the database did not say, and none came."""
    _latest: UUID | None = field(default=None, init=False)
    _seen: float = field(default=0.0, init=False)

    def spare(self, state: Ended) -> bool:
        """Whether a run with this state may be tried again by itself, though its process died. No longer than a
        minute."""
        if state.type != "CRASHED":
            return False
        if state.id != self._latest:
            self._latest, self._seen = state.id, self.clock()
        waited = self.clock() - self._seen
        expected = self._expected(state.id)
        self.overdue = expected and waited >= TRIED_AGAIN_WITHIN.total_seconds()
        return waited < DECISION_SECONDS or (expected and not self.overdue)

    def _expected(self, state_id: UUID) -> bool:
        """Whether the room tries the run again, or cannot have decided yet."""
        try:
            with reading(self.settings) as db:
                known = any(state.id == state_id for state in recorded_states(db, run_id=self.run_id))
                return not known or bool(read_retries(db, run_id=self.run_id))
        except RoomUnreachableError:
            return True


def recorded_state(settings: Settings, run_id: UUID) -> State:
    """The state of a run that was deleted in Prefect: its end, or the latest that is recorded.

    Raises UsageError when nothing is, and RoomUnreachableError.
    """
    with reading(settings) as db:
        states = recorded_states(db, run_id=run_id)
    if not states:
        raise UsageError(f"run {short_id(run_id)} was deleted in Prefect before anything was recorded of it")
    return fold(states).end or states[-1]
