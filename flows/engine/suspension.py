"""A run that ends its process, gives up its slot, and resumes later in another attempt: see approval, postponement."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State as PrefectState
from prefect.exceptions import Abort, Pause
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Running
from prefect.utilities.engine import propose_state_sync

from opsdb.errors import StepError
from opsdb.runs.prefect_runs import state_of
from opsdb.states import Life, State, fold, in_order

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Suspension(BaseException):
    """Raised by a runbook to have its run suspended. No error: `except Exception` lets it through."""

    run_id: UUID
    attempt: int
    waits: PrefectState[Any]
    """The state in which the run waits; its type and its message tell it from all others."""


class TakenError(StepError):
    """Prefect says that the run is over, or started again elsewhere: it is no longer this process's."""


def suspend(asked: Suspension, *, on_suspended: Callable[[State], None], again_seconds: float) -> Pause:
    """Have Prefect suspend the run, however long it does not answer; its state goes to `on_suspended`.

    After each try without an answer it waits `again_seconds`.

    Returns what ends the execution when it is raised. Raises StepError where Prefect does not let the run wait,
    TakenError where it was taken from this process.
    """
    # what is asked here is asked again by itself; with more retries it would sleep for minutes in between
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
        while True:
            try:
                state = _deaf_once_suspended(lambda: _request_suspension(asked))
            except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: not even its version could be read
                log.warning("run %s asks for its suspension again: %s", asked.run_id, error)
                time.sleep(again_seconds)
            else:
                on_suspended(state)
                return Pause(f"run {asked.run_id} {state.message}")


def _deaf_once_suspended(request: Callable[[], State]) -> State:
    """What Prefect said. SIGTERM waits for that, and means nothing to a process that is suspended: it ends anyway.

    Else Prefect's engine would take the signal for a crash, and put that in the place of the suspension.
    """
    signals: list[int] = []
    heard_by = signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    try:
        return request()
    except BaseException:
        signal.signal(signal.SIGTERM, heard_by)
        if signals:
            signal.raise_signal(signal.SIGTERM)
        raise


def _request_suspension(asked: Suspension) -> State:
    """The state in which it waits. Raises StepError, and httpx.HTTPError while Prefect is away."""
    with get_client(sync_client=True) as client:
        return _suspended(client, asked)


def _suspended(client: SyncPrefectClient, asked: Suspension) -> State:
    ours, latest = _read_states(client, asked)
    if ours:
        return ours  # taken up before, and the answer was lost
    if latest.type not in ("RUNNING", "CANCELLING"):  # somebody set it by hand, which resumes a run
        client.set_flow_run_state(asked.run_id, Running(), force=True)
    try:
        propose_state_sync(client, asked.waits.model_copy(), flow_run_id=asked.run_id)
    except (Pause, Abort) as answer:
        log.info("run %s asked for its suspension: %s", asked.run_id, answer)
    ours, latest = _read_states(client, asked)
    if ours:
        return ours
    raise StepError(f"Prefect does not let the run wait ({asked.waits.message}): it is {latest.name}")


def _read_states(client: SyncPrefectClient, asked: Suspension) -> tuple[State | None, State]:
    """The state in which the run waits for us, if it was taken up, and its latest one. Raises TakenError."""
    history = [state_of(state) for state in client.read_flow_run_states(asked.run_id)]
    if not history:
        raise StepError(
            f"the run was deleted in Prefect, and cannot wait there ({asked.waits.message}): start a new one"
        )
    ours, life = _taken_up(history, asked), fold(history)
    if ours is None and (life.attempt != asked.attempt or life.status.terminal):
        raise TakenError(
            f"the run is {life.latest.name} in Prefect, attempt {life.attempt}: this process may not change it"
        )
    return ours, life.latest


def _taken_up(history: list[State], asked: Suspension) -> State | None:
    """The state with which the next attempt began, if that is the one which was asked for. An earlier attempt may
    have asked for the very same."""
    ordered = in_order(history)
    lives: list[tuple[State, Life]] = [(state, fold(ordered[: end + 1])) for end, state in enumerate(ordered)]
    begins = next((state for state, life in lives if life.attempt > asked.attempt), None)
    wanted = (asked.waits.type.value, asked.waits.message)
    return begins if begins is not None and (begins.type, begins.message) == wanted else None
