"""When a run that asks for its suspension can be told to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from unittest.mock import MagicMock
from uuid import uuid4

import httpx
import pytest
from prefect.states import Paused

from flows.engine.suspension import Suspension, _deaf_once_suspended, _suspended
from opsdb.errors import StepError
from opsdb.states import State

SUSPENDED = State(id=uuid4(), at=datetime(2026, 1, 1, tzinfo=UTC), type="PAUSED", name="Suspended")


class ToldToStopError(Exception):
    """What the handler of SIGTERM raises, as Prefect's does."""


@pytest.fixture(autouse=True)
def stops_on_term() -> Iterator[None]:
    def stop(_number: int, _frame: object) -> None:
        raise ToldToStopError

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


def test_told_to_stop_while_it_asks_and_after_it_was_suspended_it_stays_suspended() -> None:
    def ask() -> State:
        signal.raise_signal(signal.SIGTERM)
        return SUSPENDED

    assert _deaf_once_suspended(ask) is SUSPENDED
    signal.raise_signal(signal.SIGTERM)


def test_told_to_stop_while_prefect_does_not_answer_it_stops() -> None:
    def ask() -> State:
        signal.raise_signal(signal.SIGTERM)
        raise httpx.ConnectError("away")

    with pytest.raises(ToldToStopError):
        _deaf_once_suspended(ask)


def test_not_suspended_it_can_be_told_to_stop_again() -> None:
    def ask() -> State:
        raise httpx.ConnectError("away")

    with pytest.raises(httpx.ConnectError):
        _deaf_once_suspended(ask)
    with pytest.raises(ToldToStopError):
        signal.raise_signal(signal.SIGTERM)


def test_run_that_was_deleted_in_prefect_cannot_wait_there() -> None:
    client = MagicMock()
    client.read_flow_run_states.return_value = []
    asked = Suspension(run_id=uuid4(), attempt=1, waits=Paused(message="waits for approval until noon: go on?"))
    with pytest.raises(StepError, match="was deleted in Prefect, and cannot wait there"):
        _suspended(client, asked)
    client.set_flow_run_state.assert_not_called()
