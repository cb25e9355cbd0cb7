"""The room's rules about states in Prefect's server: where they stand, and what they are about."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.server.schemas.states import State, StateType

from deployments.server import state_rules
from deployments.server.state_rules import LANE, POLICIES, CancelWithReason, RefusePause, ShowQuestion, asks
from deployments.worker.lane_worker import LaneWorker
from opsdb.states import APPROVAL


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for policy in POLICIES:
        monkeypatch.setattr(policy, "priority", staticmethod(policy.priority))  # taken back after the test
    state_rules.install()


@pytest.mark.parametrize("policy", POLICIES)
def test_rules_hold_once_in_the_policy_for_asked_and_the_one_for_forced_states(policy: Any) -> None:
    before = list(policy.priority())
    state_rules.install()
    assert list(policy.priority()) == before
    assert before[:2] == [RefusePause, ShowQuestion]
    assert CancelWithReason in before
    assert CancelWithReason.__base__ not in before
    assert len(before) > 4


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("before", "after", "refuses"),
    [
        (StateType.RUNNING, StateType.PAUSED, True),
        (StateType.CANCELLING, StateType.PAUSED, True),
        (StateType.SCHEDULED, StateType.PAUSED, False),
        (StateType.PENDING, StateType.PAUSED, False),
        (StateType.RUNNING, StateType.CANCELLING, False),
        (StateType.PAUSED, StateType.SCHEDULED, False),
    ],
)
def test_only_what_runs_is_not_paused(policy: Any, before: StateType, after: StateType, refuses: bool) -> None:
    assert (RefusePause in policy.compile_transition_rules(before, after)) is refuses


@pytest.mark.parametrize(
    ("state", "is_question"),
    [
        (State(type=StateType.PAUSED, name="Suspended", message=f"{APPROVAL} until tomorrow: go?"), True),
        (State(type=StateType.PAUSED, name="Suspended"), False),
        (State(type=StateType.PAUSED, name="Suspended", message="Suspended by Automation 1"), False),
        (State(type=StateType.RUNNING, message=APPROVAL), False),
        (None, False),
    ],
)
def test_a_run_asks_by_its_message(state: State | None, is_question: bool) -> None:
    assert asks(state) is is_question


def test_lanes_are_known_by_the_type_of_their_pools() -> None:
    assert LaneWorker.type == LANE
