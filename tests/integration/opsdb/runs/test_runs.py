"""Reports of a run's states against a real PostgreSQL."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from opsdb.proven import GOOD_BACKUP
from opsdb.record.entries import RunClosed, StepFinished, StepStarted, apply_line
from opsdb.runs.backups import set_to_completed
from opsdb.runs.runs import apply_states
from opsdb.states import SWITCHED_OFF, RunStatus, State
from opsdb.tables import StepStatus
from tests.support.recorded_runs import make_facts, make_states

ASKED = "waits for approval until 21:30: go on?"


def row_of(engine: Engine, run_id: UUID) -> dict[str, Any]:
    """The run's row without what says when it was written."""
    with engine.connect() as db:
        row = dict(db.execute(text("SELECT * FROM ops.runs WHERE id = :id"), {"id": run_id}).mappings().one())
    return {key: value for key, value in row.items() if key not in ("id", "updated_at", "heartbeat_at")}


@given(
    types=st.lists(
        st.sampled_from(
            ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
        ),
        min_size=1,
        max_size=7,
    ),
    seed=st.integers(0, 2**32),
)
@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_apply_states_gives_the_same_row_in_any_order(engine: Engine, types: list[str], seed: int) -> None:
    in_order, shuffled = make_facts(), make_facts()
    states = make_states(*types)
    again = [State(id=uuid4(), at=s.at, type=s.type, name=s.name) for s in states]
    for state in states:
        with engine.begin() as db:
            apply_states(db, facts=in_order, states=[state])
    reports = list(again) + again[: len(again) // 2]
    random.Random(seed).shuffle(reports)
    for state in reports:
        with engine.begin() as db:
            apply_states(db, facts=shuffled, states=[state])
    one, other = row_of(engine, in_order.id), row_of(engine, shuffled.id)
    assert one.pop("state_id") in {s.id for s in states}
    assert other.pop("state_id") in {s.id for s in again}
    assert one == other


def test_apply_states_says_none_when_nothing_is_new(engine: Engine) -> None:
    facts, states = make_facts(), make_states("SCHEDULED", "PENDING")
    with engine.begin() as db:
        assert apply_states(db, facts=facts, states=states) is RunStatus.CLAIMED

        assert apply_states(db, facts=facts, states=states) is None

    assert row_of(engine, facts.id)["status"] == "claimed"


def test_apply_states_gives_a_claimed_run_a_heartbeat(engine: Engine) -> None:
    facts = make_facts()
    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states("PENDING"))
        age = db.scalar(text("SELECT extract(epoch FROM clock_timestamp() - heartbeat_at) FROM ops.runs"))
    assert age is not None
    assert age < 5


def test_apply_states_tells_who_claimed_the_run(engine: Engine) -> None:
    facts = make_facts()
    scheduled, pending, crashed, again = make_states("SCHEDULED", "PENDING", "CRASHED", "SCHEDULED")
    with engine.begin() as db:
        apply_states(db, facts=facts, states=[scheduled, replace(pending, message="claimed by host-1")])
        assert db.scalar(text("SELECT claimed_by FROM ops.runs")) == "host-1"
        apply_states(db, facts=facts, states=[crashed, again])
        assert db.scalar(text("SELECT claimed_by FROM ops.runs")) is None


def test_apply_states_notes_a_rewritten_terminal_state_once(engine: Engine) -> None:
    facts, states = make_facts(), make_states("RUNNING", "COMPLETED", "CRASHED")
    for order in itertools.permutations(states):
        for state in order:
            with engine.begin() as db:
                apply_states(db, facts=facts, states=[state])
    with engine.connect() as db:
        assert db.scalars(text("SELECT message FROM ops.run_events")).all() == ["Prefect rewrote Completed to Crashed"]


def test_apply_states_puts_runs_without_a_session_into_that_days_session(engine: Engine) -> None:
    for session_id in (None, uuid4()):  # none named, and one that does not exist
        with engine.begin() as db:
            apply_states(db, facts=make_facts(session_id=session_id), states=make_states("SCHEDULED"))
    with engine.connect() as db:
        rows = db.execute(text("SELECT name, runs FROM ops.session_progress")).all()
    assert rows == [("Ad hoc 2026-01-01", 2)]


@pytest.mark.parametrize("error_first", [True, False])
def test_a_run_keeps_its_own_error_whether_it_comes_before_the_failed_state_or_after(
    engine: Engine, error_first: bool
) -> None:
    facts = make_facts()
    running, failed = make_states("RUNNING", "FAILED")
    closed = RunClosed.of(facts.id, attempt=1, error={"type": "StepFailed", "message": "disk full", "stack": None})
    with engine.begin() as db:
        apply_states(db, facts=facts, states=[running])
        if error_first:
            apply_line(db, closed.line())
        apply_states(db, facts=facts, states=[failed])
        if not error_first:
            apply_line(db, closed.line())
    assert row_of(engine, facts.id)["error"]["message"] == "disk full"


@pytest.mark.promise(9)
@pytest.mark.parametrize("said", ["failed", None])
def test_failed_run_that_is_set_to_completed_keeps_the_word_of_its_process(engine: Engine, said: str | None) -> None:
    facts, good = make_facts(), make_facts()
    running, failed, completed = make_states("RUNNING", "FAILED", "COMPLETED")
    with engine.begin() as db:
        apply_states(db, facts=facts, states=[running])
        if said:
            closed = RunClosed.of(facts.id, attempt=1, error={"type": "X", "message": "y", "stack": None})
            apply_line(db, closed.line())
        apply_states(db, facts=facts, states=[failed])
        apply_states(db, facts=facts, states=[completed])
        apply_states(db, facts=good, states=[replace(running, id=uuid4())])
        apply_line(db, RunClosed.of(good.id, attempt=1, result={}).line())
        apply_states(db, facts=good, states=[replace(completed, id=uuid4())])
        assert set_to_completed(db, [facts.id, good.id]) == {facts.id}
        proofs = db.execute(text("SELECT id FROM ops.runs WHERE " + GOOD_BACKUP)).scalars().all()
    row = row_of(engine, facts.id)
    assert (row["status"], row["outcome"]) == ("succeeded", said)
    assert proofs == [good.id]


@pytest.mark.parametrize(
    ("attempts", "by_hand"),
    [
        (["RUNNING", "CRASHED", "SCHEDULED", "PENDING", "RUNNING"], False),  # the second one's outcome is in the spool
        (["RUNNING", "CRASHED", "SCHEDULED", "PENDING", "RUNNING", "FAILED"], True),
        (["RUNNING"], False),
    ],
)
def test_success_that_the_record_has_yet_to_hear_of_was_set_by_nobody(
    engine: Engine, attempts: list[str], by_hand: bool
) -> None:
    facts = make_facts()
    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states(*attempts, "COMPLETED"))
        assert set_to_completed(db, [facts.id]) == ({facts.id} if by_hand else set())


def test_a_retry_forgets_the_error_of_the_attempt_before(engine: Engine) -> None:
    facts, states = make_facts(), make_states("RUNNING", "FAILED", "SCHEDULED", "PENDING", "RUNNING", "COMPLETED")
    with engine.begin() as db:
        apply_states(db, facts=facts, states=states[:2])
        closed = RunClosed.of(facts.id, attempt=1, error={"type": "X", "message": "y", "stack": None})
        apply_line(db, closed.line())
        for state in states[2:]:
            apply_states(db, facts=facts, states=[state])
    row = row_of(engine, facts.id)
    assert (row["status"], row["attempt"], row["error"]) == ("succeeded", 2, None)


def test_step_entries_can_be_applied_twice_and_late(engine: Engine) -> None:
    facts = make_facts()
    started = StepStarted(facts.id, attempt=1, index=1, name="pg_dump", command="pg_dump", timeout_seconds=600)
    finished = StepFinished(facts.id, attempt=1, index=1, status=StepStatus.FAILED, exit_code=1, error="a\0b\udc80")
    with engine.begin() as db:
        apply_states(db, facts=facts, states=make_states("RUNNING"))
        for entry in (started, finished, started, finished):
            apply_line(db, entry.line())
        row = db.execute(text("SELECT status, exit_code, error, finished_at >= started_at FROM ops.run_steps")).one()
    assert tuple(row) == ("failed", 1, "a\ufffdb?", True)


@pytest.mark.parametrize(
    ("before", "message", "told"),
    [
        (ASKED, "The flow was paused and never resumed.", f"nobody approved in time: it {ASKED}"),
        (ASKED, "The flow was resuming and never resumed.", f"nobody approved in time: it {ASKED}"),
        ("suspended by hand", "The flow was paused and never resumed.", "The flow was paused and never resumed."),
        (ASKED, "set by hand", "set by hand"),
    ],
)
def test_run_that_nobody_approved_of_says_what_it_asked(engine: Engine, before: str, message: str, told: str) -> None:
    facts = make_facts()
    running, paused, failed = make_states("RUNNING", "PAUSED", "FAILED")
    states = [running, replace(paused, message=before), replace(failed, message=message)]
    for state in states:
        with engine.begin() as db:
            apply_states(db, facts=facts, states=[state])
    assert row_of(engine, facts.id)["error"]["message"] == told


def test_run_that_waited_while_its_kind_was_switched_off_says_so_in_an_event(engine: Engine) -> None:
    facts = make_facts()
    waits, off = make_states("SCHEDULED", "CANCELLED")
    off = replace(off, name=SWITCHED_OFF, message="stored_command was switched off while the run waited")
    for _repeated in range(2):
        with engine.begin() as db:
            apply_states(db, facts=facts, states=[waits, off])
    with engine.connect() as db:
        events = db.execute(text("SELECT level, message FROM ops.run_events WHERE run_id = :id"), {"id": facts.id})
        assert [tuple(row) for row in events] == [("warning", off.message)]
    assert row_of(engine, facts.id)["status"] == RunStatus.CANCELLED
