"""A run that asks a real Prefect server to begin anew later."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import State as PrefectState
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import Pause
from prefect.states import Cancelling, Crashed, Pending, Running, Scheduled

from flows.engine.active_run import ActiveRun, activated
from flows.engine.postponement import postpone
from flows.engine.suspension import Suspension, TakenError, suspend
from opsdb.errors import StepError, UsageError
from opsdb.runs.prefect_runs import state_of
from opsdb.settings import Settings
from opsdb.states import State, fold


@contextmanager
def own_signals() -> Iterator[None]:
    """A process that was suspended is deaf to SIGTERM; this one is not to be."""
    heard_by = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, heard_by)


@pytest.fixture
def run(client: SyncPrefectClient) -> UUID:
    """A run that is running, in its first attempt."""
    flow_id = client.create_flow_from_name("postponed")
    deployment = client.create_deployment(flow_id, "postponed", entrypoint="x.y")
    made = client.create_flow_run_from_deployment(deployment)
    started(client, made.id)
    return made.id


def started(client: SyncPrefectClient, run: UUID) -> None:
    states: list[PrefectState[Any]] = [Pending(), Running()]
    for state in states:
        client.set_flow_run_state(run, state, force=True)


def asks(settings: Settings, run: UUID, attempt: int = 1, *, until_at: datetime) -> Suspension:
    active = ActiveRun(run, attempt, settings, lambda _entry: None, in_lane=True, clock=lambda: datetime.now(UTC))
    with activated(active), pytest.raises(Suspension) as asked:
        postpone(until_at, "one failed")
    return asked.value


def life(client: SyncPrefectClient, run: UUID) -> Any:
    return fold(state_of(state) for state in client.read_flow_run_states(run))


def granted(asked: Suspension) -> list[State]:
    states: list[State] = []
    with own_signals():
        assert isinstance(suspend(asked, on_suspended=states.append, again_seconds=0.1), Pause)
    return states


def test_run_gives_itself_back_until_then_once(client: SyncPrefectClient, settings: Settings, run: UUID) -> None:
    until_at = datetime.now(UTC) + timedelta(minutes=15)
    asked = asks(settings, run, until_at=until_at)
    first, second = granted(asked), granted(asked)  # the answer to the first was lost
    assert first == second
    flow_run = client.read_flow_run(run)
    assert flow_run.next_scheduled_start_time is not None
    assert timedelta(0) <= flow_run.next_scheduled_start_time - until_at <= timedelta(seconds=1)
    assert first[0].postponed_until == flow_run.next_scheduled_start_time
    assert (life(client, run).status, life(client, run).attempt) == ("queued", 2)


def test_next_attempt_may_ask_for_the_very_same(client: SyncPrefectClient, settings: Settings, run: UUID) -> None:
    until_at = datetime.now(UTC) + timedelta(minutes=15)
    granted(asks(settings, run, until_at=until_at))
    client.set_flow_run_state(run, Scheduled(), force=True)  # somebody had it started earlier
    started(client, run)
    granted(asks(settings, run, 2, until_at=until_at))
    assert (life(client, run).status, life(client, run).attempt) == ("queued", 3)


def test_attempt_that_was_taken_from_its_process_is_not_postponed(
    client: SyncPrefectClient, settings: Settings, run: UUID
) -> None:
    client.set_flow_run_state(run, Crashed(), force=True)
    client.set_flow_run_state(run, Scheduled(), force=True)
    started(client, run)
    with own_signals(), pytest.raises(TakenError, match="attempt 2"):
        suspend(asks(settings, run, until_at=datetime.now(UTC)), on_suspended=print, again_seconds=0.1)
    assert (life(client, run).status, life(client, run).attempt) == ("running", 2)


def test_run_that_is_being_cancelled_is_not_postponed(client: SyncPrefectClient, settings: Settings, run: UUID) -> None:
    client.set_flow_run_state(run, Cancelling())
    with own_signals(), pytest.raises(StepError, match="it is Cancelling"):
        suspend(asks(settings, run, until_at=datetime.now(UTC)), on_suspended=print, again_seconds=0.1)
    assert life(client, run).latest.type == "CANCELLING"


def test_run_in_no_lane_is_not_postponed(settings: Settings, run: UUID) -> None:
    outside = ActiveRun(run, 1, settings, lambda _entry: None, in_lane=False)
    with activated(outside), pytest.raises(UsageError, match="one failed"):
        postpone(datetime.now(UTC), "one failed")
