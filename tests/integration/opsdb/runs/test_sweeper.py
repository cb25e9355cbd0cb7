"""The sweeper's rules on a real PostgreSQL, and what run processes and workers learn of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from deployments.sync.marks import write_watermark
from opsdb.record.entries import RunClosed, RunOpened, StepStarted, apply_line
from opsdb.runs.attempts import AttemptStatus
from opsdb.runs.runs import RunFacts
from opsdb.runs.sweeper import doomed, fence_run, judge_forced_end, sweep
from opsdb.settings import Settings
from opsdb.states import State
from opsdb.tables import Lane
from tests.integration.sweeper_case import PREFECT_NOW, Case


@pytest.mark.parametrize(("seconds", "reasons"), [(29, []), (31, ["HeartbeatTimeout"])])
@pytest.mark.promise(1)
def test_running_run_is_lost_after_30_s_without_a_heartbeat(case: Case, seconds: float, reasons: list[str]) -> None:
    case.states("SCHEDULED", "PENDING", "RUNNING")
    case.age(seconds)
    assert case.sweep() == reasons
    assert case.row().status == "running"  # the verdict waits until its processes are gone


@pytest.mark.parametrize(
    ("flagged", "cancelled", "beat", "reasons"),
    [
        (True, 6, 1, []),
        (True, 179, 1, []),
        (True, 181, 1, ["Cancelled"]),
        (True, 31, 31, ["Cancelled"]),
        (False, 6, 1, ["Cancelled"]),
    ],
)
def test_cancelled_run_that_puts_back_is_given_three_minutes_as_long_as_it_lives(
    case: Case, flagged: bool, cancelled: float, beat: float, reasons: list[str]
) -> None:
    case.states("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")
    step = StepStarted(case.id, attempt=1, index=1, name="a", command="", timeout_seconds=1, must_run_again=flagged)
    with case.engine.begin() as db:
        apply_line(db, step.line())
        db.execute(
            text(
                "UPDATE ops.run_states SET recorded_at = clock_timestamp() - make_interval(secs => :ago) "
                "WHERE run_id = :run AND type = 'CANCELLING'"
            ),
            {"ago": cancelled, "run": case.id},
        )
    case.age(beat)
    assert case.sweep() == reasons


@pytest.mark.promise(3)
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
    assert case.unpushed() == ["HeartbeatTimeout"]
    case.sweep()
    assert len(case.events()) == 1


@pytest.mark.promise(3)
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
        write_watermark(
            db, PREFECT_NOW, outage_seconds=case.settings.timings.prefect_outage
        )  # it answers again: 60 s from now
    assert case.sweep() == []
    with case.engine.begin() as db:
        db.execute(text("UPDATE ops.sync_marks SET at = at - interval '61 s' WHERE name = 'prefect'"))
    assert case.sweep() == ["ClaimTimeout"]


def test_run_past_its_deadline_is_ended_though_its_heart_beats(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.set("deadline_at = clock_timestamp() - interval '1 s'")
    assert case.beat() is AttemptStatus.OURS
    assert case.sweep() == ["DeadlineExceeded"]
    assert case.beat() is AttemptStatus.TAKEN
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
    assert case.unpushed() == ["Cancelled"]


def test_run_that_was_to_be_cancelled_is_cancelled_whatever_else_became_of_it(case: Case) -> None:
    case.states("PENDING", "RUNNING", "CANCELLING")
    with case.engine.begin() as db:
        assert fence_run(db, run_id=case.id, reason="HeartbeatTimeout")
    assert case.row().fence_reason == "Cancelled"


@pytest.mark.promise(10)
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


def test_two_sweepers_at_once_fence_once_and_conclude_once(watched: Engine, settings: Settings) -> None:
    cases = [Case(watched, settings) for _ in range(25)]
    for case in cases:
        case.states("PENDING", "RUNNING")
        case.age(31)
    gate = threading.Barrier(4)

    def sweeping(_number: int) -> list[UUID]:
        gate.wait()
        with watched.begin() as db:
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


def test_late_process_of_a_claim_that_timed_out_is_ended_again(case: Case) -> None:
    case.states("SCHEDULED", "PENDING")
    case.age(61)
    case.sweep()
    case.reaped()
    case.sweep()
    assert case.row().status == "failed"
    case.states("RUNNING")  # its worker was stopped, and goes on: Prefect lets it
    assert case.row().status == "failed"
    assert case.beat() is AttemptStatus.TAKEN
    case.sweep()
    assert case.unpushed() == ["ClaimTimeout"]


def test_run_that_is_begun_anew_after_a_claim_timed_out_is_not_fenced(case: Case) -> None:
    case.states("SCHEDULED", "PENDING")
    case.age(61)
    case.sweep()
    case.reaped()
    case.sweep()
    case.states("CRASHED", "SCHEDULED", "PENDING", "RUNNING")
    row = case.row()
    assert (row.status, row.attempt, row.fenced_at) == ("running", 2, None)
    assert case.beat(1) is AttemptStatus.TAKEN  # the process of the first claim
    assert case.beat(2) is AttemptStatus.OURS


def test_interrupted_run_has_no_outcome_and_can_be_lost(case: Case) -> None:
    case.states("PENDING", "RUNNING")
    case.close(error={"type": "Terminated", "message": "m", "stack": None}, interrupted=True)
    case.age(31)
    assert case.sweep() == ["HeartbeatTimeout"]


def test_doomed_are_fenced_outdated_and_long_finished_attempts(case: Case) -> None:
    case.states("PENDING", "RUNNING")

    def is_doomed(attempt: int) -> bool:
        with case.engine.connect() as db:
            return bool(doomed(db, {case.id: attempt}, exit_seconds=10))

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
    first = RunOpened(
        case.id, facts=facts, attempt=1, states=states, claimed_by="first", deadline_seconds=1, max_attempts=2
    )
    with case.engine.begin() as db:
        apply_line(db, first.line())
        apply_line(db, RunClosed.of(case.id, attempt=1, result="old").line())
    row = case.row()
    assert (row.claimed_by, row.deadline_at, row.result, row.outcome) == ("second", None, None, None)
    assert row.max_attempts == 2


def in_step(case: Case) -> None:
    """The run comes to its second step."""
    case.states("SCHEDULED", "PENDING", "RUNNING")
    for index, name in enumerate(("preflight", "load"), start=1):
        step = StepStarted(case.id, attempt=1, index=index, name=name, command="true", timeout_seconds=1)
        with case.engine.begin() as db:
            apply_line(db, step.line())


def judge(case: Case) -> None:
    with case.engine.begin() as db:
        judge_forced_end(db, run_id=case.id, attempt=1)


@pytest.mark.parametrize(
    ("by_hand", "status"),
    [("COMPLETED", "cancelled"), ("FAILED", "failed"), ("CRASHED", "failed"), ("CANCELLED", "cancelled")],
)
def test_end_that_somebody_set_while_a_step_ran_says_so_and_is_no_success(
    case: Case, by_hand: str, status: str
) -> None:
    in_step(case)
    case.states(by_hand)
    judge(case)
    judge(case)
    assert case.row().status == status
    [(level, message)] = case.events()
    assert level == "warning"
    assert f"{by_hand.title()} was set in Prefect while it ran in step 2 (load)" in message
    assert case.unpushed() == (["Cancelled"] if by_hand == "COMPLETED" else [])
    with case.engine.connect() as db:
        steps = db.scalars(text("SELECT DISTINCT status FROM ops.run_steps WHERE run_id = :id"), {"id": case.id})
        assert list(steps) == ["interrupted"]


def test_end_that_the_run_itself_or_the_room_came_to_was_not_set_by_hand(case: Case) -> None:
    in_step(case)
    judge(case)  # it runs
    case.close(result=1)
    case.states("COMPLETED")
    judge(case)
    assert (case.row().status, case.events()) == ("succeeded", [])


def test_run_that_is_to_be_cancelled_while_it_waits_is_cancelled(case: Case) -> None:
    case.states("SCHEDULED", "CANCELLING")
    assert case.row().status == "queued"
    case.set("recorded_at = recorded_at - interval '6 s'", table="run_states")
    assert case.sweep() == ["Cancelled"]
    case.set("fenced_at = fenced_at - interval '3 s'")
    case.sweep()
    assert case.row().status == "cancelled"


def test_run_that_is_held_while_it_waits_is_not_lost(case: Case) -> None:
    case.states("SCHEDULED", "PAUSED")
    case.age(86_400)
    assert case.sweep() == []
    assert case.row().status == "queued"
