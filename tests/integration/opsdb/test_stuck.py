"""The sweeper's rules on a real PostgreSQL. Ages are made by moving times in the tables, never by waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from opsdb.applying import apply_entry
from opsdb.database import connect
from opsdb.records import run_closed, run_opened
from opsdb.runs import RunFacts, apply_states
from opsdb.settings import Settings
from opsdb.standing import Standing, look
from opsdb.states import APPROVAL, RESUMING, State
from opsdb.stuck import doomed, fence_run, note_reaped, sweep, told_of
from opsdb.sync_marks import write_watermark
from opsdb.tables import Lane
from opsdb.verdicts import to_be_told

PREFECT_NOW = datetime(2031, 5, 5, tzinfo=UTC)
"""Prefect's clock, years from the database's: no rule may compare the two."""


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = connect(settings, application="test")
    with engine.begin() as db:
        sweep(db, settings)  # somebody watches, and has for long
        write_watermark(db, PREFECT_NOW)
        db.execute(text("UPDATE ops.sync_marks SET at = at - interval '1 day'"))
    yield engine
    engine.dispose()


class Case:
    """One run, put into a state, aged, swept."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings, self.id, self.number = engine, settings, uuid4(), 0

    def states(self, *types: str) -> None:
        facts = RunFacts(
            id=self.id, kind="k", lane=Lane.A, priority=0, session_id=None, params={}, created_at=PREFECT_NOW
        )
        made = []
        for type_ in types:
            self.number += 1
            at = PREFECT_NOW + timedelta(seconds=self.number)
            made.append(State(id=uuid4(), at=at, type=type_, name=type_.title()))
        with self.engine.begin() as db:
            apply_states(db, facts=facts, states=made)

    def set(self, assignment: str, table: str = "runs") -> None:
        column = "id" if table == "runs" else "run_id"
        with self.engine.begin() as db:
            db.execute(text(f"UPDATE ops.{table} SET {assignment} WHERE {column} = :id"), {"id": self.id})

    def age(self, seconds: float) -> None:
        self.set(f"heartbeat_at = clock_timestamp() - interval '{seconds} s'")

    def sweep(self) -> list[str]:
        with self.engine.begin() as db:
            return [fence.reason for fence in sweep(db, self.settings) if fence.run_id == self.id]

    def reaped(self, attempt: int = 1) -> None:
        with self.engine.begin() as db:
            note_reaped(db, run_id=self.id, attempt=attempt)

    def close(self, **values: Any) -> None:
        with self.engine.begin() as db:
            apply_entry(db, run_closed(self.id, attempt=1, **values))

    def row(self) -> Any:
        with self.engine.connect() as db:
            return db.execute(text("SELECT * FROM ops.runs WHERE id = :id"), {"id": self.id}).one()

    def events(self) -> list[tuple[str, str]]:
        query = text("SELECT level, message FROM ops.run_events WHERE run_id = :id ORDER BY created_at")
        with self.engine.connect() as db:
            return [(row.level, row.message) for row in db.execute(query, {"id": self.id})]

    def standing(self, attempt: int = 1, *, beating: bool = True) -> Standing:
        with self.engine.begin() as db:
            return look(db, run_id=self.id, attempt=attempt, beating=beating)

    def told(self) -> list[str | None]:
        with self.engine.connect() as db:
            return [telling.state.name for telling in to_be_told(db) if telling.run_id == self.id]


@pytest.fixture
def case(engine: Engine, settings: Settings) -> Case:
    return Case(engine, settings)


@pytest.mark.parametrize(("seconds", "reasons"), [(29, []), (31, ["HeartbeatTimeout"])])
def test_running_run_is_lost_after_30_s_without_a_heartbeat(case: Case, seconds: float, reasons: list[str]) -> None:
    case.states("SCHEDULED", "PENDING", "RUNNING")
    case.age(seconds)
    assert case.sweep() == reasons
    assert case.row().status == "running"  # the verdict waits until its processes are gone


def test_verdict_is_written_once_its_processes_are_gone(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.set("claimed_by = 'w'")
    case.age(31)
    case.sweep()
    case.reaped()
    assert case.sweep() == []
    row = case.row()
    assert (row.status, row.error["type"]) == ("failed", "HeartbeatTimeout")
    assert [level for level, _ in case.events()] == ["warning"]
    assert case.told() == ["HeartbeatTimeout"]
    case.sweep()
    assert len(case.events()) == 1


def test_verdict_without_word_from_the_host_is_an_error_that_names_it(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.set("claimed_by = 'host-7'")
    case.age(31)
    case.sweep()
    case.sweep()
    assert case.row().status == "running"
    case.set("fenced_at = fenced_at - interval '3 s'")
    case.sweep()
    assert case.row().status == "failed"
    [(level, message)] = case.events()
    assert level == "error"
    assert "No worker confirmed that its processes on host-7" in message


@pytest.mark.parametrize(("seconds", "reasons"), [(59, []), (61, ["ClaimTimeout"])])
def test_claimed_run_that_does_not_start_is_failed(case: Case, seconds: float, reasons: list[str]) -> None:
    case.states("SCHEDULED", "PENDING")
    case.age(seconds)
    assert case.sweep() == reasons


def test_claimed_run_waits_while_prefect_does_not_answer(case: Case) -> None:
    case.states("SCHEDULED", "PENDING")
    case.age(300)
    with case.engine.begin() as db:
        db.execute(
            text("UPDATE ops.sync_marks SET updated_at = clock_timestamp() - interval '60 s' WHERE name = 'prefect'")
        )
    assert case.sweep() == []
    with case.engine.begin() as db:
        write_watermark(db, PREFECT_NOW)  # it answers again: 60 s from now
    assert case.sweep() == []
    with case.engine.begin() as db:
        db.execute(text("UPDATE ops.sync_marks SET at = at - interval '61 s' WHERE name = 'prefect'"))
    assert case.sweep() == ["ClaimTimeout"]


def test_run_past_its_deadline_is_ended_though_its_heart_beats(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.set("deadline_at = clock_timestamp() - interval '1 s'")
    assert case.standing() is Standing.OURS
    assert case.sweep() == ["DeadlineExceeded"]
    assert case.standing() is Standing.TAKEN
    case.reaped()
    case.sweep()
    assert case.row().error["type"] == "DeadlineExceeded"


@pytest.mark.parametrize("types", [("SCHEDULED",), ("RUNNING", "COMPLETED"), ("RUNNING", "CANCELLED")])
def test_runs_that_wait_or_are_over_are_left_alone(case: Case, types: tuple[str, ...]) -> None:
    case.states(*types)
    case.set("heartbeat_at = clock_timestamp() - interval '1 day', deadline_at = clock_timestamp() - interval '1 day'")
    assert case.sweep() == []


def test_cancel_that_no_worker_answers_is_carried_out_by_the_sweeper(case: Case) -> None:
    case.states("PENDING", "RUNNING", "CANCELLING")
    assert case.sweep() == []
    case.set("recorded_at = recorded_at - interval '6 s'", "run_states")
    assert case.sweep() == ["Cancelled"]
    case.reaped()
    case.sweep()
    row = case.row()
    assert (row.status, row.finished_at is not None) == ("cancelled", True)
    assert case.told() == ["Cancelled"]


def test_run_that_was_to_be_cancelled_is_cancelled_whatever_else_became_of_it(case: Case) -> None:
    case.states("PENDING", "RUNNING", "CANCELLING")
    with case.engine.begin() as db:
        assert fence_run(db, run_id=case.id, reason="HeartbeatTimeout")
    assert case.row().fence_reason == "Cancelled"


def test_pause_of_all_sweepers_is_nobodys_silence(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(40)
    with case.engine.begin() as db:  # case 9: nobody could sweep for 20 s, so nobody could beat
        db.execute(
            text("UPDATE ops.sync_marks SET updated_at = clock_timestamp() - interval '20 s' WHERE name = 'sweep'")
        )
    assert case.sweep() == []
    assert case.sweep() == []
    with case.engine.begin() as db:
        db.execute(text("UPDATE ops.sync_marks SET at = at - interval '31 s' WHERE name = 'sweep'"))
    assert case.sweep() == ["HeartbeatTimeout"]


def test_two_sweepers_at_once_fence_once_and_conclude_once(engine: Engine, settings: Settings) -> None:
    cases = [Case(engine, settings) for _ in range(25)]
    for case in cases:
        case.states("PENDING", "RUNNING")
        case.age(31)
    gate = threading.Barrier(4)

    def sweeping(_number: int) -> list[UUID]:
        gate.wait()
        with engine.begin() as db:
            return [fence.run_id for fence in sweep(db, settings)]

    with ThreadPoolExecutor(4) as pool:
        fenced = [run for found in pool.map(sweeping, range(4)) for run in found]
        assert sorted(fenced) == sorted(case.id for case in cases)
        for case in cases:
            case.reaped()
        list(pool.map(sweeping, range(4)))
    for case in cases:
        assert case.row().status == "failed"
        assert len(case.events()) == 1


def test_completed_that_prefect_says_after_the_verdict_stands(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(31)
    case.sweep()
    case.reaped()
    case.sweep()
    assert case.row().status == "failed"
    case.states("COMPLETED")
    assert case.row().status == "succeeded"
    assert case.told() == []
    assert any("rewrote HeartbeatTimeout to Completed" in message for _, message in case.events())


def test_crashed_that_follows_the_verdict_is_no_rewriting(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(31)
    case.sweep()
    case.reaped()
    case.sweep()
    case.states("CRASHED")
    assert case.told() == []
    assert len(case.events()) == 1


def test_late_process_of_a_claim_that_timed_out_is_ended_again(case: Case) -> None:
    case.states("SCHEDULED", "PENDING")
    case.age(61)
    case.sweep()
    case.reaped()
    case.sweep()
    assert case.row().status == "failed"
    case.states("RUNNING")  # its worker was stopped, and goes on: Prefect lets it
    assert case.row().status == "running"
    assert case.standing() is Standing.TAKEN
    case.sweep()
    assert case.row().status == "failed"
    assert case.told() == ["ClaimTimeout"]


def test_run_that_is_begun_anew_after_a_claim_timed_out_is_not_fenced(case: Case) -> None:
    case.states("SCHEDULED", "PENDING")
    case.age(61)
    case.sweep()
    case.reaped()
    case.sweep()
    case.states("CRASHED", "SCHEDULED", "PENDING", "RUNNING")
    row = case.row()
    assert (row.status, row.attempt, row.fenced_at) == ("running", 2, None)
    assert case.standing(1) is Standing.TAKEN  # the process of the first claim
    assert case.standing(2) is Standing.OURS


def test_retry_whose_history_is_not_here_yet_is_ours(case: Case) -> None:
    case.states("PENDING", "RUNNING", "CRASHED")
    assert case.standing(2) is Standing.OURS
    assert case.standing(1) is Standing.TAKEN


def test_look_beats_only_when_asked(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.age(20)
    before = case.row().heartbeat_at
    assert case.standing(beating=False) is Standing.OURS
    assert case.row().heartbeat_at == before
    assert case.standing() is Standing.OURS
    assert case.row().heartbeat_at > before
    case.states("CANCELLING")
    assert case.standing() is Standing.CANCELLING


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
    assert len(case.told()) == 1


def test_outcome_wins_over_a_fence_that_came_later(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.close(result=1)
    with case.engine.begin() as db:
        fence_run(db, run_id=case.id, reason="HeartbeatTimeout", attempt=1)
    case.reaped()
    case.sweep()
    assert case.row().status == "succeeded"


def test_interrupted_run_has_no_outcome_and_can_be_lost(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.close(error={"type": "Terminated", "message": "m", "stack": None}, interrupted=True)
    case.age(31)
    assert case.sweep() == ["HeartbeatTimeout"]


def requeueable(case: Case, *, max_attempts: int) -> None:
    case.states("PENDING", "RUNNING")
    case.set(f"max_attempts = {max_attempts}")


@pytest.mark.parametrize(("max_attempts", "told"), [(1, []), (2, ["AwaitingRetry"])])
def test_run_that_crashed_is_tried_again_where_its_kind_allows_it(
    case: Case, max_attempts: int, told: list[str]
) -> None:
    requeueable(case, max_attempts=max_attempts)
    case.states("CRASHED")
    assert case.told() == told
    case.states("SCHEDULED", "PENDING", "RUNNING", "CRASHED")
    assert case.told() == []  # bounded


def test_run_is_not_tried_again_before_its_first_attempt_is_known_to_be_gone(case: Case) -> None:
    requeueable(case, max_attempts=2)
    case.age(31)
    case.sweep()
    case.set("fenced_at = fenced_at - interval '3 s'")
    case.sweep()
    case.states("CRASHED")  # Prefect follows the verdict
    assert case.row().status == "failed"
    assert case.told() == []
    case.reaped()
    assert case.told() == ["AwaitingRetry"]


def test_run_that_never_started_is_tried_again_whatever_its_kind(case: Case) -> None:
    case.states("SCHEDULED", "PENDING", "CRASHED")
    assert case.told() == ["AwaitingRetry"]
    case.states("SCHEDULED", "PENDING", "CRASHED", "SCHEDULED", "PENDING", "CRASHED")
    assert case.row().attempt == 3
    assert case.told() == []  # bounded


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED", "COMPLETED"])
def test_run_that_ended_by_itself_is_not_tried_again(case: Case, end: str) -> None:
    requeueable(case, max_attempts=3)
    case.states(end)
    assert case.told() == []


def test_verdict_is_not_told_over_a_state_that_it_does_not_follow_from(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    known = case.row().state_id
    case.age(31)
    case.sweep()
    case.reaped()
    case.sweep()
    with case.engine.connect() as db:
        assert [telling.follows for telling in to_be_told(db)] == [known]


def test_worker_learns_what_is_recorded_of_an_attempt(case: Case) -> None:
    case.states("PENDING", "RUNNING")

    def told(attempt: int = 1) -> tuple[bool, str | None]:
        with case.engine.connect() as db:
            found = told_of(db, run_id=case.id, attempt=attempt)
        return found.taken, found.outcome

    assert told() == (False, None)
    assert told(2) == (False, None)
    case.close(result=1)
    assert told() == (False, "succeeded")
    with case.engine.begin() as db:
        fence_run(db, run_id=case.id, reason="DeadlineExceeded")
    assert told() == (True, "succeeded")
    case.states("CRASHED", "SCHEDULED", "PENDING")
    assert told() == (True, None)
    assert told(2) == (False, None)


def test_doomed_are_fenced_outdated_and_long_finished_attempts(case: Case) -> None:
    case.states("PENDING", "RUNNING")

    def is_doomed(attempt: int) -> bool:
        with case.engine.connect() as db:
            return bool(doomed(db, {case.id: attempt}))

    assert not is_doomed(1)
    case.states("COMPLETED")
    assert not is_doomed(1)  # it gets 10 s to exit
    case.set("updated_at = updated_at - interval '11 s'")
    assert is_doomed(1)
    assert not is_doomed(2)  # a retry whose history is not here yet
    case.states("SCHEDULED", "PENDING", "RUNNING")
    assert is_doomed(1)
    assert not is_doomed(2)
    with case.engine.begin() as db:
        fence_run(db, run_id=case.id, reason="DeadlineExceeded")
    assert is_doomed(2)


def test_late_record_of_an_earlier_attempt_leaves_the_later_one_alone(case: Case) -> None:
    facts = RunFacts(id=case.id, kind="k", lane=Lane.A, priority=0, session_id=None, params={}, created_at=PREFECT_NOW)
    case.states("PENDING", "RUNNING", "CRASHED", "SCHEDULED", "PENDING", "RUNNING")
    case.set("claimed_by = 'second'")
    states = [State(id=uuid4(), at=PREFECT_NOW, type="PENDING", name="Pending")]
    first = run_opened(facts=facts, attempt=1, states=states, claimed_by="first", deadline_seconds=1, max_attempts=2)
    with case.engine.begin() as db:
        apply_entry(db, first)
        apply_entry(db, run_closed(case.id, attempt=1, result="old"))
    row = case.row()
    assert (row.claimed_by, row.deadline_at, row.result, row.outcome) == ("second", None, None, None)
    assert row.max_attempts == 2


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
    assert case.told() == []


def test_approved_run_whose_worker_died_before_its_start_goes_on(case: Case) -> None:
    applied(case, *suspended(case), later(3, "SCHEDULED", RESUMING), later(4, "PENDING"), later(5, "CRASHED"))
    assert case.told() == [RESUMING]


def test_approvals_do_not_use_up_the_attempts_after_a_death(case: Case) -> None:
    applied(case, *suspended(case), later(3, "SCHEDULED", RESUMING), later(4, "RUNNING"), later(5, "CRASHED"))
    assert case.told() == []
    case.set("max_attempts = 2")
    assert case.told() == ["AwaitingRetry"]
    applied(case, later(6, "SCHEDULED", "AwaitingRetry"), later(7, "RUNNING"), later(8, "CRASHED"))
    assert case.told() == []
