"""What Prefect is told of runs that ended without it, and which of them are tried again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from deployments.sync.verdicts import Pushed, push_state, read_unpushed
from opsdb.runs.deleted import note_deleted
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sessions import cancel_session, make_session
from opsdb.runs.sweeper import fence_run
from opsdb.states import APPROVAL, RESUMING, State
from opsdb.tables import Lane
from tests.integration.sweeper_case import PREFECT_NOW, Case
from tests.unit.deployments.worker.test_lane_worker import states


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"result": 1}, "succeeded"),
        ({"error": {"type": "StepFailed", "message": "disk full", "stack": None}}, "failed"),
    ],
)
def test_outcome_that_prefect_did_not_hear_of_is_told_by_the_room(
    case: Case, values: dict[str, Any], status: str
) -> None:
    case.states("PENDING", "RUNNING")
    case.close(**values)
    case.age(300)
    case.set("deadline_at = clock_timestamp() - interval '1 s'")
    assert case.sweep() == []  # it is not lost: its process may be telling Prefect
    assert case.row().status == "running"
    case.set("outcome_at = outcome_at - interval '11 s'")
    assert case.sweep() == []
    row = case.row()
    assert row.status == status
    assert row.fenced_at is None
    assert case.events() == []
    assert len(case.unpushed()) == 1


def test_outcome_wins_over_a_fence_that_came_later(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.close(result=1)
    with case.engine.begin() as db:
        fence_run(db, run_id=case.id, reason="HeartbeatTimeout", attempt=1)
    case.reaped()
    case.sweep()
    assert case.row().status == "succeeded"


def test_completed_that_prefect_says_after_the_verdict_stands(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(31)
    case.sweep()
    case.reaped()
    case.sweep()
    assert case.row().status == "failed"
    case.states("COMPLETED")
    assert case.row().status == "succeeded"
    assert case.unpushed() == []
    assert any("rewrote HeartbeatTimeout to Completed" in message for _, message in case.events())


def test_crashed_that_follows_the_verdict_is_no_rewriting(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(31)
    case.sweep()
    case.reaped()
    case.sweep()
    case.states("CRASHED")
    assert case.unpushed() == []
    assert len(case.events()) == 1


def requeueable(case: Case, *, max_attempts: int) -> None:
    case.states("PENDING", "RUNNING")
    case.set(f"max_attempts = {max_attempts}")


@pytest.mark.parametrize(("max_attempts", "told"), [(1, []), (2, ["AwaitingRetry"])])
def test_run_that_crashed_is_tried_again_where_its_kind_allows_it(
    case: Case, max_attempts: int, told: list[str]
) -> None:
    requeueable(case, max_attempts=max_attempts)
    case.states("CRASHED")
    assert case.unpushed() == told
    case.states("SCHEDULED", "PENDING", "RUNNING", "CRASHED")
    assert case.unpushed() == []  # bounded


def test_run_whose_session_was_cancelled_is_not_tried_again(case: Case) -> None:
    requeueable(case, max_attempts=2)
    with case.engine.begin() as db:
        session = make_session(db, name="night")
    case.set(f"session_id = '{session}'")
    case.states("CRASHED")
    assert case.unpushed() == ["AwaitingRetry"]
    with case.engine.begin() as db:
        cancel_session(db, session)
    assert case.unpushed() == []


@pytest.mark.promise(4)
def test_run_is_not_tried_again_before_its_first_attempt_is_known_to_be_gone(case: Case) -> None:
    requeueable(case, max_attempts=2)
    case.age(31)
    case.sweep()
    case.set("fenced_at = fenced_at - interval '3 s'")
    case.sweep()
    case.states("CRASHED")  # Prefect follows the verdict
    assert case.row().status == "failed"
    assert case.unpushed() == []
    case.reaped()
    assert case.unpushed() == ["AwaitingRetry"]


def test_run_that_never_started_is_tried_again_whatever_its_kind(case: Case) -> None:
    case.states("SCHEDULED", "PENDING", "CRASHED")
    assert case.unpushed() == ["AwaitingRetry"]
    case.states("SCHEDULED", "PENDING", "CRASHED", "SCHEDULED", "PENDING", "CRASHED")
    assert case.row().attempt == 3
    assert case.unpushed() == []  # bounded


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED", "COMPLETED"])
def test_run_that_ended_by_itself_is_not_tried_again(case: Case, end: str) -> None:
    requeueable(case, max_attempts=3)
    case.states(end)
    assert case.unpushed() == []


def test_verdict_is_not_told_over_a_state_that_it_does_not_follow_from(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    known = case.row().state_id
    case.age(31)
    case.sweep()
    case.reaped()
    case.sweep()
    with case.engine.connect() as db:
        assert [push.follows for push in read_unpushed(db)] == [known]


def suspended(case: Case) -> list[State]:
    """The states of a run that waits for an approval."""
    at = PREFECT_NOW
    wait = State(id=uuid4(), at=at + timedelta(seconds=2), type="PAUSED", name="Suspended", message=f"{APPROVAL}: go?")
    return [State(id=uuid4(), at=at + timedelta(seconds=1), type="RUNNING", name="Running"), wait]


def applied(case: Case, *states: State) -> None:
    facts = RunFacts(id=case.id, kind="k", lane=Lane.A, priority=0, session_id=None, params={}, created_at=PREFECT_NOW)
    with case.engine.begin() as db:
        apply_states(db, facts=facts, states=list(states))


def later(seconds: int, type_: str, name: str | None = None) -> State:
    return State(id=uuid4(), at=PREFECT_NOW + timedelta(seconds=seconds), type=type_, name=name or type_.title())


def test_run_that_waits_for_an_approval_is_neither_lost_nor_ever_repeated(case: Case) -> None:
    applied(case, *suspended(case))
    case.age(86_400)
    assert case.sweep() == []
    assert case.row().status == "queued"
    applied(case, later(3, "CRASHED"))  # over what waits: nothing ran that could have died
    assert case.unpushed() == []


def test_approved_run_whose_worker_died_before_its_start_goes_on(case: Case) -> None:
    applied(case, *suspended(case), later(3, "SCHEDULED", RESUMING), later(4, "PENDING"), later(5, "CRASHED"))
    assert case.unpushed() == [RESUMING]


def test_approvals_do_not_use_up_the_attempts_after_a_death(case: Case) -> None:
    applied(case, *suspended(case), later(3, "SCHEDULED", RESUMING), later(4, "RUNNING"), later(5, "CRASHED"))
    assert case.unpushed() == []
    case.set("max_attempts = 2")
    assert case.unpushed() == ["AwaitingRetry"]
    applied(case, later(6, "SCHEDULED", "AwaitingRetry"), later(7, "RUNNING"), later(8, "CRASHED"))
    assert case.unpushed() == []


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("PENDING", "RUNNING", "SCHEDULED"), ["Running"]),
        (("PENDING", "RUNNING", "PENDING"), ["Running"]),
        (("PENDING", "RUNNING", "PAUSED"), []),  # so it can be resumed
        (("PENDING", "RUNNING", "RUNNING"), []),
        (("PENDING", "RUNNING", "CANCELLING"), []),
        (("SCHEDULED", "RUNNING"), ["Scheduled"]),
        (("SCHEDULED", "PENDING", "RUNNING"), []),
        (("SCHEDULED", "COMPLETED"), ["Cancelled"]),
        (("SCHEDULED", "FAILED"), []),
        (("SCHEDULED", "PAUSED"), []),
        *((("PENDING", "RUNNING", "COMPLETED", late), ["Completed"]) for late in ("RUNNING", "PENDING", "PAUSED")),
        (("PENDING", "RUNNING", "FAILED", "CANCELLING"), ["Failed"]),
        (("PENDING", "RUNNING", "COMPLETED", "RUNNING", "COMPLETED"), []),
    ],
)
def test_prefect_is_told_what_a_run_is_when_somebody_set_something_else(
    case: Case, states: tuple[str, ...], told: list[str]
) -> None:
    case.states(*states)
    assert case.unpushed() == told


def test_run_that_was_put_back_waits_in_its_first_attempt(case: Case) -> None:
    applied(case, later(1, "SCHEDULED"), later(2, "RUNNING"))
    with case.engine.connect() as db:
        [push] = [push for push in read_unpushed(db) if push.run_id == case.id]
    waits = replace(later(3, "SCHEDULED"), message=push.state.message)
    applied(case, waits)
    row = case.row()
    assert (row.status, row.attempt, row.started_at) == ("queued", 1, None)
    assert [message for _, message in case.events()] == [push.state.message]
    applied(case, later(4, "PENDING"), later(5, "RUNNING"), later(6, "COMPLETED"))
    assert (case.row().status, case.row().attempt) == ("succeeded", 1)


def test_prefect_hears_nothing_of_a_run_that_was_deleted_there(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(31)
    case.sweep()
    case.reaped()
    case.sweep()
    assert case.unpushed() == ["HeartbeatTimeout"]
    with case.engine.begin() as db:
        note_deleted(db, case.id)
    assert case.unpushed() == []


async def pushed(case: Case, *history: StateType) -> tuple[Pushed, AsyncMock]:
    """What becomes of a push when Prefect has this history."""
    with case.engine.connect() as db:
        [push] = [push for push in read_unpushed(db) if push.run_id == case.id]
    client = AsyncMock()
    client.read_flow_run.return_value.state_id = push.follows
    client.read_flow_run_states.return_value = states(*history)
    return await push_state(client, push), client


def test_state_is_not_taken_for_set_by_hand_when_one_before_it_was_missed(case: Case) -> None:
    case.states("PENDING", "RUNNING", "SCHEDULED")
    missed = (StateType.PENDING, StateType.RUNNING, StateType.CRASHED, StateType.SCHEDULED)
    answer, client = asyncio.run(pushed(case, *missed))
    assert answer is Pushed.MISSED
    client.set_flow_run_state.assert_not_called()
    answer, client = asyncio.run(pushed(case, StateType.PENDING, StateType.RUNNING, StateType.SCHEDULED))
    assert answer is Pushed.DONE
    client.set_flow_run_state.assert_awaited_once()


def test_run_that_a_worker_claimed_meanwhile_is_not_put_back(case: Case) -> None:
    case.states("SCHEDULED", "RUNNING")
    answer, client = asyncio.run(pushed(case, StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING))
    assert answer is Pushed.MISSED
    client.set_flow_run_state.assert_not_called()


def test_push_says_that_prefect_does_not_have_the_run(case: Case) -> None:
    case.states("SCHEDULED", "RUNNING")
    with case.engine.connect() as db:
        [push] = [push for push in read_unpushed(db) if push.run_id == case.id]
    client = AsyncMock()
    client.read_flow_run.side_effect = ObjectNotFound(Exception())
    assert asyncio.run(push_state(client, push)) is Pushed.DELETED
