"""What was reported of a run becomes its row in `ops.runs`. The one place where a run's status is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.alerts.episodes import open_crashed
from opsdb.runs.notes import ended_unclaimed, ended_while_it_waited, note_states
from opsdb.runs.sessions import ensure_session
from opsdb.states import NEVER_RESUMED, Life, RunStatus, State, fold
from opsdb.storable import storable
from opsdb.tables import Lane, Run, RunState, RunStep, StepResult, StepStatus


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What does not change in the life of a run."""

    id: UUID
    kind: str
    lane: Lane
    priority: int
    session_id: UUID | None
    params: dict[str, Any]
    created_at: datetime
    name: str | None = None
    """What people call it, as Prefect has it. Somebody may give it another one: `write_names`."""
    tick: str | None = None
    """For which schedule and due time it was planned, in Prefect's words; None when somebody asked for it."""


def apply_states(db: Connection, *, facts: RunFacts, states: Sequence[State]) -> RunStatus | None:
    """Record states of a run and make its row what all recorded states say together.

    Repeats change nothing, and the order of calls makes no difference: the row is a fold over insert-only
    `run_states`, so a late report of an old state can not overwrite a newer one. Returns the status when the row
    was written, None when nothing was new. The caller's transaction commits it.
    """
    session_id = ensure_session(db, session_id=facts.session_id, created_at=facts.created_at)
    first = fold(states)
    db.execute(
        insert(Run)
        .values(
            vars(facts)
            | {"session_id": session_id, "params": storable(facts.params), "name": storable(facts.name)}
            | _columns(first)
        )
        .on_conflict_do_nothing()
    )
    row = db.execute(select(col(Run.attempt), col(Run.error)).where(col(Run.id) == facts.id).with_for_update()).one()
    rows = [
        {"id": s.id, "run_id": facts.id, "at": s.at, "type": s.type, "name": s.name, "source": s.source}
        | {"message": storable(s.message), "due_at": s.due_at}
        for s in states
    ]
    added = db.scalars(insert(RunState).values(rows).on_conflict_do_nothing().returning(col(RunState.id))).all()
    if not added:
        return None
    known = recorded_states(db, run_id=facts.id)
    life = fold(known)
    before = known[-2] if len(known) > 1 else None
    asked = before.message if before is not None and before.waits_for_approval else None
    _write(db, run_id=facts.id, life=life, row=row, newest_is_news=life.latest.id in added, asked=asked)
    if life.latest.type == "CRASHED" and life.latest.id in added:
        open_crashed(db, facts.id)
    note_states(db, run_id=facts.id, life=life, known=known, added=set(added))
    return life.status


def write_names(db: Connection, names: Mapping[UUID, str]) -> None:
    """Note what runs are called now."""
    for run_id, name in names.items():
        db.execute(update(Run).where(col(Run.id) == run_id).values(name=storable(name)))


def facts_of_row(run: Row[Any]) -> RunFacts:
    """What does not change, from a row of `ops.runs`."""
    return RunFacts(**{one.name: getattr(run, one.name) for one in fields(RunFacts)} | {"lane": Lane(run.lane)})


def recorded_states(db: Connection, *, run_id: UUID) -> list[State]:
    """All states that were recorded of a run, oldest first."""
    rows = db.execute(select(RunState).where(col(RunState.run_id) == run_id).order_by(col(RunState.at)))
    return [
        State(id=r.id, at=r.at, type=r.type, name=r.name, message=r.message, source=r.source, due_at=r.due_at)
        for r in rows
    ]


def _write(db: Connection, *, run_id: UUID, life: Life, row: Row[Any], newest_is_news: bool, asked: str | None) -> None:
    values = _columns(life)
    values |= {"error": _error(life, row.error, asked=asked), "updated_at": func.clock_timestamp()}
    if life.attempt != row.attempt:
        values |= {
            "result": None,
            "claimed_by": None,
            "heartbeat_at": None,
            "deadline_at": None,
            "waits_for_resource": None,
        }
        values |= {"fenced_at": None, "fence_reason": None, "reaped_at": None, "outcome": None, "outcome_at": None}
    if life.claimed_by is not None:
        values["claimed_by"] = life.claimed_by
    if newest_is_news and life.status in (RunStatus.CLAIMED, RunStatus.RUNNING):
        values["heartbeat_at"] = func.clock_timestamp()  # else its age would be NULL, and the run never lost
    db.execute(update(Run).where(col(Run.id) == run_id).values(**values))
    _interrupt_steps(db, run_id=run_id, attempts=life.attempt + 1 if life.status.terminal else life.attempt)
    if life.status is RunStatus.SUCCEEDED:
        db.execute(delete(StepResult).where(col(StepResult.run_id) == run_id))  # nothing resumes from here


def _columns(life: Life) -> dict[str, Any]:
    """What a life says of its row."""
    names = ("status", "attempt", "claimed_at", "due_at", "started_at", "finished_at")
    latest = {"state_id": life.latest.id, "state_at": life.latest.at}
    return {name: getattr(life, name) for name in names} | latest


def _interrupt_steps(db: Connection, *, run_id: UUID, attempts: int) -> None:
    """An attempt that is over, as are those before `attempts`, has no running step.

    What the step itself has to say may still come, and then stands.
    """
    db.execute(
        update(RunStep)
        .where(col(RunStep.run_id) == run_id, col(RunStep.finished_at).is_(None), col(RunStep.attempt) < attempts)
        .values(
            status=StepStatus.INTERRUPTED,
            finished_at=func.clock_timestamp(),
            error="the run ended before it did",
            progress=None,
        )
    )


def _error(life: Life, recorded: dict[str, Any] | None, *, asked: str | None) -> dict[str, Any] | None:
    """The run process knows best why it failed; where it could not say, Prefect's message stands in.

    `asked` is what the run asked for when it ended: no process was there to say that nobody answered.
    """
    if life.status is RunStatus.SUCCEEDED:
        return None
    if recorded is not None and recorded.get("context", {}).get("attempt") == life.attempt:
        return recorded
    if life.end is None:
        return None
    message = life.end.message or ""
    if asked and life.status is RunStatus.FAILED and NEVER_RESUMED.fullmatch(message):
        message = f"nobody approved in time: it {asked}"
    if ended_unclaimed(life, life.end):
        message = message or ended_while_it_waited(life.end.name, attempt=life.attempt)
    return {"type": life.end.name, "message": message, "stack": None, "context": {}}
