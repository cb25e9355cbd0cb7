"""A run that ends its process until somebody lets it go on, and gives up its slot meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, Pause
from prefect.states import Suspended
from prefect.utilities.engine import propose_state_sync

from opsdb.errors import StepError
from opsdb.states import APPROVAL


@dataclass(eq=False)
class Suspension(BaseException):
    """Raised by a step to have the run suspended. No error: `except Exception` lets it through."""

    run_id: UUID
    attempt: int
    step: str
    question: str
    until_at: datetime


def suspend(asked: Suspension) -> Pause:
    """Have Prefect suspend the run. Returns what ends its execution when it is raised. Raises StepError."""
    message = f"{APPROVAL} until {asked.until_at:%Y-%m-%d %H:%M:%S} UTC: {asked.question}"
    wanted: State[Any] = Suspended(
        pause_expiration_time=asked.until_at, pause_key=f"{asked.step}-{asked.attempt}", message=message
    )
    with get_client(sync_client=True) as client:
        try:
            state = propose_state_sync(client, wanted, flow_run_id=asked.run_id)
        except Abort as error:
            raise StepError(f"Prefect does not let the run wait for an approval: {error}") from error
    if not state.is_paused():
        raise StepError(f"Prefect does not let the run wait for an approval: it is {state.name}")
    return Pause(state=state)
