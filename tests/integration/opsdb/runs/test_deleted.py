"""Runs that somebody deleted in Prefect before they were over, by what is recorded of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from deployments.sync.verdicts import read_unpushed
from opsdb.record.entries import RunClosed, StepStarted, apply_line
from opsdb.runs.attempts import AttemptStatus, read_attempt_status
from opsdb.runs.deleted import cancel_deleted, end_deleted, forget_twins, note_deleted, unfinished_deleted
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sessions import make_session
from opsdb.runs.sweeper import note_reaped, sweep
from opsdb.settings import Settings
from opsdb.states import APPROVAL, State
from tests.support.recorded_runs import START, make_facts, make_states

RUNNING = ("SCHEDULED", "PENDING", "RUNNING")


class Room:
    """An ops database, and what is recorded of runs there."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings

    def run(self, *types: str, **facts: Any) -> UUID:
        made = make_facts(**facts)
        self.report(made, make_states(*types))
        return made.id

    def report(self, facts: RunFacts, states: list[State]) -> None:
        with self.engine.begin() as db:
            apply_states(db, facts=facts, states=states)

    def delete(self, *run_ids: UUID) -> None:
        for run_id in run_ids:
            with self.engine.begin() as db:
                note_deleted(db, run_id)

    def close(self, run_id: UUID, **values: Any) -> None:
        with self.engine.begin() as db:
            apply_line(db, RunClosed.of(run_id, attempt=1, **values).line())

    def end(self, run_id: UUID, type_: str, *, attempt: int = 1, message: str | None = None) -> None:
        with self.engine.begin() as db:
            end_deleted(db, run_id=run_id, attempt=attempt, type_=type_, name=type_.title(), message=message)

    def cancel(self, run_id: UUID) -> bool:
        with self.engine.begin() as db:
            return cancel_deleted(db, run_id=run_id, by="cancelled by me")

    def sweep(self) -> None:
        with self.engine.begin() as db:
            sweep(db, self.settings)

    def reaped(self, run_id: UUID) -> None:
        with self.engine.begin() as db:
            note_reaped(db, run_id=run_id, attempt=1)

    def sql(self, statement: str, **values: Any) -> Any:
        with self.engine.begin() as db:
            return db.execute(text(statement), values)

    def row(self, run_id: UUID) -> Any:
        return self.sql("SELECT * FROM ops.runs WHERE id = :id", id=run_id).one_or_none()

    def events(self, run_id: UUID) -> list[str]:
        found = self.sql("SELECT message FROM ops.run_events WHERE run_id = :id ORDER BY created_at", id=run_id)
        return [row.message for row in found]

    def now(self) -> datetime:
        now: datetime = self.sql("SELECT clock_timestamp()").scalar_one()
        return now

    def told(self) -> tuple[int, int]:
        """How many alerts there are, and how many states Prefect is to hear of."""
        with self.engine.connect() as db:
            alerts = db.scalar(text("SELECT count(*) FROM ops.alert_episodes")) or 0
            return alerts, len(read_unpushed(db))


@pytest.fixture
def room(watched: Engine, settings: Settings) -> Room:
    return Room(watched, settings)


@pytest.mark.parametrize("tick", [None, "scheduled a b 2026-01-01"])
def test_run_that_is_deleted_while_it_waits_is_cancelled_and_nobody_is_alerted(room: Room, tick: str | None) -> None:
    run_id, before = room.run("SCHEDULED", tick=tick), room.now()
    room.delete(run_id, run_id)
    row = room.row(run_id)
    assert (row.status, row.error["type"], row.started_at) == ("cancelled", "Deleted", None)
    assert before < row.finished_at < room.now()
    [event] = room.events(run_id)
    assert ("schedule" in event) == (tick is not None)
    room.sweep()
    assert room.told() == (0, 0)


def test_run_that_is_deleted_while_it_waits_for_an_approval_is_cancelled(room: Room) -> None:
    facts, states = make_facts(), make_states(*RUNNING, "PAUSED")
    asks = State(id=states[3].id, at=states[3].at, type="PAUSED", name="Suspended", message=f"{APPROVAL}: go on?")
    room.report(facts, [*states[:3], asks])
    room.delete(facts.id)
    assert (room.row(facts.id).status, room.row(facts.id).attempt) == ("cancelled", 2)


def test_run_that_is_deleted_while_it_runs_goes_on_and_ends_when_its_process_does(room: Room) -> None:
    run_id, before = room.run(*RUNNING), room.now()
    room.delete(run_id, run_id)
    assert (room.row(run_id).status, room.row(run_id).finished_at) == ("running", None)
    [event] = room.events(run_id)
    assert "it keeps running" in event
    assert f"ops cancel {run_id.hex[-8:]}" in event
    with room.engine.begin() as db:
        assert read_attempt_status(db, run_id=run_id, attempt=1) is AttemptStatus.OURS
    room.close(run_id, result={"rows": 7})
    room.end(run_id, "COMPLETED", message="its process recorded that it succeeded")
    row = room.row(run_id)
    assert (row.status, row.result, row.error) == ("succeeded", {"rows": 7}, None)
    assert before < row.finished_at == row.outcome_at
    assert room.told() == (0, 0)


def test_deleted_run_whose_worker_is_gone_ends_as_its_process_recorded(room: Room) -> None:
    run_id = room.run(*RUNNING)
    room.delete(run_id)
    room.close(run_id, error={"type": "StepFailed", "message": "disk full", "stack": None})
    room.sql("UPDATE ops.runs SET outcome_at = outcome_at - interval '11 s' WHERE id = :id", id=run_id)
    room.sweep()
    row = room.row(run_id)
    assert (row.status, row.error["message"], row.finished_at) == ("failed", "disk full", row.outcome_at)
    assert room.told()[1] == 0


@pytest.mark.parametrize("never", ["told by its worker", "not told by anybody"])
def test_run_that_is_deleted_between_its_claim_and_its_start_is_cancelled(room: Room, never: str) -> None:
    run_id = room.run("SCHEDULED", "PENDING")
    room.delete(run_id)
    assert room.row(run_id).status == "claimed"
    if never == "told by its worker":
        room.end(run_id, "CRASHED", message="exit code 77")
    else:
        room.sql("UPDATE ops.runs SET heartbeat_at = clock_timestamp() - interval '61 s' WHERE id = :id", id=run_id)
        room.sweep()
        room.reaped(run_id)
        room.sweep()
    row = room.row(run_id)
    assert (row.status, row.error["type"]) == ("cancelled", "Deleted")
    assert "nothing of it ran" in row.error["message"]


def test_process_of_a_deleted_run_that_died_has_failed_and_is_not_tried_again(room: Room) -> None:
    run_id = room.run(*RUNNING)
    room.sql("UPDATE ops.runs SET max_attempts = 3 WHERE id = :id", id=run_id)
    room.end(run_id, "CRASHED", message="the run process ended: killed by SIGKILL")
    row = room.row(run_id)
    assert (row.status, row.error["message"]) == ("failed", "the run process ended: killed by SIGKILL")
    assert row.deleted_at is not None
    assert room.told()[1] == 0  # Prefect has nothing to begin again


def test_worker_has_no_say_in_a_deleted_run_that_was_taken_from_it(room: Room) -> None:
    run_id = room.run(*RUNNING)
    assert room.cancel(run_id)
    room.end(run_id, "CRASHED")
    assert room.row(run_id).status == "running"  # until its processes are gone
    over = room.run(*RUNNING, "COMPLETED")
    room.end(over, "CRASHED")
    assert room.row(over).status == "succeeded"


def test_deleted_run_is_cancelled_through_the_database(room: Room) -> None:
    run_id = room.run(*RUNNING)
    assert room.cancel(run_id)
    with room.engine.begin() as db:
        assert read_attempt_status(db, run_id=run_id, attempt=1) is AttemptStatus.TAKEN
    room.sweep()
    room.reaped(run_id)
    room.sweep()
    row = room.row(run_id)
    assert (row.status, row.error["message"]) == ("cancelled", "cancelled; Prefect does not have it any more")
    assert row.finished_at > row.deleted_at
    assert "cancelled by me" in room.events(run_id)
    assert not room.cancel(run_id)
    assert room.told() == (0, 0)


def test_session_knows_its_runs_that_go_on_without_prefect(room: Room) -> None:
    with room.engine.begin() as db:
        session = make_session(db, name="night")
    deleted, waiting, known = (room.run(*types, session_id=session) for types in (RUNNING, ("SCHEDULED",), RUNNING))
    room.delete(deleted, waiting)
    with room.engine.connect() as db:
        assert unfinished_deleted(db, session) == [deleted]
    assert room.row(known).deleted_at is None


TICK = {"tick": "scheduled deployment schedule 2026-01-01", "created_at": START}
OTHER = {"tick": "scheduled by another"}


# a deploy may have changed its parameters meanwhile, or somebody may have made the schedule again
@pytest.mark.parametrize("other", [{}, {"params": {"odoo_db": "another"}}, {"tick": "scheduled by another"}])
@pytest.mark.parametrize("order", ["deleted first", "twin first"])
def test_deleted_run_of_a_due_time_that_was_planned_again_is_nothing_at_all(
    room: Room, order: str, other: dict[str, Any]
) -> None:
    deleted = room.run("SCHEDULED", **TICK)
    if order == "deleted first":
        room.delete(deleted)
    twin = room.run("SCHEDULED", **TICK | other)
    room.delete(deleted)
    with room.engine.begin() as db:
        forget_twins(db)
    assert room.row(deleted) is None
    assert room.row(twin).status == "queued"


@pytest.mark.parametrize(
    "other",
    [
        {"tick": None, "created_at": START},  # somebody started it by hand
        {**TICK, "created_at": START + timedelta(seconds=4)},
        {**TICK, **OTHER, "params": {"odoo_db": "another"}},
        {**TICK, **OTHER, "kind": "another"},
    ],
)
def test_deleted_run_without_a_twin_stays_in_the_record(room: Room, other: dict[str, Any]) -> None:
    deleted = room.run("SCHEDULED", **TICK)
    room.run("SCHEDULED", **other)
    room.delete(deleted)
    with room.engine.begin() as db:
        forget_twins(db)
    assert room.row(deleted).status == "cancelled"


def test_run_that_began_stays_in_the_record_whatever_was_planned_again(room: Room) -> None:
    began = room.run(*RUNNING, **TICK)
    room.run("SCHEDULED", **TICK)
    room.delete(began)
    both = [room.run("SCHEDULED", **TICK | OTHER | {"params": {"odoo_db": "both"}}) for _ in range(2)]
    room.delete(*both)
    with room.engine.begin() as db:
        forget_twins(db)
    assert room.row(began).status == "running"
    assert [room.row(run_id).status for run_id in both] == ["cancelled", "cancelled"]


def test_steps_of_an_attempt_that_ended_are_closed_though_its_end_came_with_the_next_attempt(room: Room) -> None:
    facts, states = make_facts(), make_states(*RUNNING, "CRASHED", "SCHEDULED")
    room.report(facts, states[:3])
    step = StepStarted(facts.id, attempt=1, index=1, name="load", command="true", timeout_seconds=1)
    with room.engine.begin() as db:
        apply_line(db, step.line())
    room.report(facts, states[3:])
    assert room.row(facts.id).attempt == 2
    status = room.sql("SELECT status FROM ops.run_steps WHERE run_id = :id", id=facts.id).scalar_one()
    assert status == "interrupted"


def test_run_that_is_not_recorded_is_nobodys(room: Room) -> None:
    unknown = uuid4()
    room.delete(unknown)
    room.end(unknown, "CRASHED")
    assert not room.cancel(unknown)
    assert room.row(unknown) is None
