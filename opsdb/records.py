"""What a run process says of its run, as entries that can be applied late, and more than once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.journal import Entry, age_seconds, stamp
from opsdb.kept_steps import KeptStep
from opsdb.runs import RunFacts, apply_states, facts_of_row
from opsdb.states import State
from opsdb.storable import storable
from opsdb.tables import Artifact, Lane, Run, RunEvent, RunState, RunStep, StepResult, StepStatus
from opsdb.template_versions import keep_version

INLINE_BYTES = 1024 * 1024


class Standing(Enum):
    """How a run process stands with its run."""

    OURS = "ours"
    CANCELLING = "to be cancelled"
    TAKEN = "over, fenced, or begun anew elsewhere"


def run_opened(
    *,
    facts: RunFacts,
    attempt: int,
    states: list[State],
    claimed_by: str | None,
    deadline_seconds: float | None,
    max_attempts: int = 1,
    resource: str | None = None,
) -> Entry:
    """The run process has started."""
    return _entry(
        "run_opened",
        facts.id,
        attempt=attempt,
        kind=facts.kind,
        lane=facts.lane,
        priority=facts.priority,
        session_id=str(facts.session_id) if facts.session_id else None,
        params=facts.params,
        created_at=facts.created_at.isoformat(),
        states=[_state(state) for state in states],
        claimed_by=claimed_by,
        deadline_seconds=deadline_seconds,
        max_attempts=max_attempts,
        resource=resource,
    )


def run_suspended(run_id: UUID, state: State) -> Entry:
    """Prefect took up the wish of the run process to wait: this is the state."""
    return _entry("run_suspended", run_id, state=_state(state))


def run_closed(
    run_id: UUID,
    *,
    attempt: int,
    result: Any = None,
    error: Mapping[str, Any] | None = None,
    interrupted: bool = False,
) -> Entry:
    """The runbook returned or raised. `error` is `{type, message, stack, context}`.

    With `interrupted` it was stopped from outside: others say how the run ended.
    """
    if error is not None:
        error = {**error, "context": {**error.get("context", {}), "attempt": attempt}}
    outcome = None if interrupted else "succeeded" if error is None else "failed"
    return _entry("run_closed", run_id, attempt=attempt, result=result, error=error, outcome=outcome)


def step_started(
    run_id: UUID,
    *,
    attempt: int,
    index: int,
    name: str,
    command: str,
    timeout_seconds: float,
    definition: str | None = None,
) -> Entry:
    """A step has started. Indexes count from 1. `definition` is the hash of its runbook."""
    return _entry(
        "step_started",
        run_id,
        attempt=attempt,
        index=index,
        name=name,
        command=command,
        timeout_seconds=timeout_seconds,
        definition=definition,
    )


def step_finished(
    run_id: UUID,
    *,
    attempt: int,
    index: int,
    status: StepStatus,
    exit_code: int | None = None,
    error: str | None = None,
    result: dict[str, Any] | None = None,
    must_run_again: bool = False,
) -> Entry:
    """A step has ended."""
    return _entry(
        "step_finished",
        run_id,
        attempt=attempt,
        index=index,
        status=status,
        exit_code=exit_code,
        error=error,
        result=result,
        must_run_again=must_run_again,
    )


def step_skipped(run_id: UUID, *, attempt: int, index: int, step: KeptStep) -> Entry:
    """A step is not done again: it succeeded in an earlier attempt, perhaps under another index."""
    return _entry("step_skipped", run_id, attempt=attempt, **{**asdict(step), "index": index})


def event(run_id: UUID, message: str, *, level: str = "info", **data: Any) -> Entry:
    """Something that an operator may want to know."""
    return _entry("event", run_id, id=str(uuid4()), level=level, message=message, data=data)


def artifact(run_id: UUID, *, kind: str, name: str, **columns: Any) -> Entry:
    """Something the run made: see `ops.artifacts`. Text over 1 MB belongs into a file: ValueError."""
    if len((columns.get("content_text") or "").encode()) > INLINE_BYTES:
        raise ValueError(f"artifact {name!r} holds over 1 MB of text: write a file and give its storage_path")
    return _entry("artifact", run_id, id=str(uuid4()), kind=kind, name=name, columns=columns)


def template_used(run_id: UUID, *, name: str, template: Mapping[str, Any], definition: str) -> Entry:
    """The run executes this template: the file's name without its ending, and all that the file says."""
    return _entry("template_used", run_id, id=str(uuid4()), name=name, template=template, definition=definition)


def apply_entry(db: Connection, entry: Entry) -> None:
    """Write one entry into the tables. Applying it again changes nothing."""
    APPLY[entry["op"]](db, UUID(entry["run_id"]), entry)


def look(db: Connection, *, run_id: UUID, attempt: int, beating: bool) -> Standing:
    """See how an attempt stands, and write its heartbeat while it is ours."""
    row = db.execute(
        select(col(Run.attempt), col(Run.finished_at), col(Run.fenced_at), col(RunState.type))
        .join(RunState, col(Run.state_id) == col(RunState.id))
        .where(col(Run.id) == run_id)
    ).one_or_none()
    if row is None or row.attempt < attempt:
        return Standing.OURS  # not all of it is here yet, so nobody took it from us
    if row.attempt > attempt:
        return Standing.TAKEN
    unfenced = [col(Run.id) == run_id, col(Run.finished_at).is_(None), col(Run.fenced_at).is_(None)]
    beat = update(Run).where(*unfenced, col(Run.attempt) == attempt).values(heartbeat_at=func.clock_timestamp())
    if row.finished_at or row.fenced_at or (beating and not db.execute(beat).rowcount):
        return Standing.TAKEN
    return Standing.CANCELLING if row.type == "CANCELLING" else Standing.OURS


def _entry(operation: str, run_id: UUID, **values: Any) -> Entry:
    entry: Entry = storable({"op": operation, "run_id": str(run_id), "made": stamp(), **values})
    return entry


def _state(state: State) -> dict[str, Any]:
    at = state.at.isoformat()
    return {"id": str(state.id), "at": at, "type": state.type, "name": state.name, "message": state.message}


def _state_of(entry: Mapping[str, Any]) -> State:
    at = datetime.fromisoformat(entry["at"])
    return State(id=UUID(entry["id"]), at=at, type=entry["type"], name=entry["name"], message=entry["message"])


def _made_at(entry: Entry) -> ColumnElement[datetime]:
    """When the entry was made, on the database's clock."""
    return func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, age_seconds(entry["made"]))


def _apply_run_opened(db: Connection, run_id: UUID, entry: Entry) -> None:
    apply_states(
        db,
        facts=RunFacts(
            id=run_id,
            kind=entry["kind"],
            lane=Lane(entry["lane"]),
            priority=entry["priority"],
            session_id=UUID(entry["session_id"]) if entry["session_id"] else None,
            params=entry["params"],
            created_at=datetime.fromisoformat(entry["created_at"]),
        ),
        states=[_state_of(state) for state in entry["states"]],
    )
    db.execute(update(Run).where(col(Run.id) == run_id).values(max_attempts=entry["max_attempts"]))
    values: dict[str, Any] = {key: entry[key] for key in ("claimed_by", "resource")}
    if entry["deadline_seconds"] is not None:
        deadline = _made_at(entry) + func.make_interval(0, 0, 0, 0, 0, 0, entry["deadline_seconds"])
        values["deadline_at"] = func.coalesce(col(Run.deadline_at), deadline)
    this_attempt = [col(Run.id) == run_id, col(Run.attempt) == entry["attempt"]]
    db.execute(update(Run).where(*this_attempt, col(Run.finished_at).is_(None)).values(**values))


def _apply_run_suspended(db: Connection, run_id: UUID, entry: Entry) -> None:
    run = db.execute(select(Run).where(col(Run.id) == run_id)).one_or_none()
    if run is not None:
        apply_states(db, facts=facts_of_row(run), states=[_state_of(entry["state"])])


def _apply_run_closed(db: Connection, run_id: UUID, entry: Entry) -> None:
    values: dict[str, Any] = {"result": entry["result"], "error": entry["error"]}
    if entry["outcome"] is not None:
        values |= {
            "outcome": entry["outcome"],
            "outcome_at": func.coalesce(col(Run.outcome_at), func.clock_timestamp()),
        }
    db.execute(update(Run).where(col(Run.id) == run_id, col(Run.attempt) == entry["attempt"]).values(**values))


def _apply_step_started(db: Connection, run_id: UUID, entry: Entry) -> None:
    columns = {key: entry[key] for key in ("attempt", "index", "name", "command", "timeout_seconds")}
    columns["definition"] = entry.get("definition")
    db.execute(
        insert(RunStep)
        .values(run_id=run_id, status=StepStatus.RUNNING, started_at=_made_at(entry), **columns)
        .on_conflict_do_nothing()
    )


def _apply_step_finished(db: Connection, run_id: UUID, entry: Entry) -> None:
    _keep_result(db, run_id, entry)
    db.execute(
        update(RunStep)
        .where(
            col(RunStep.run_id) == run_id,
            col(RunStep.attempt) == entry["attempt"],
            col(RunStep.index) == entry["index"],
            col(RunStep.status).in_((StepStatus.RUNNING, StepStatus.INTERRUPTED)),
        )
        .values(
            status=entry["status"],
            exit_code=entry["exit_code"],
            error=entry["error"],
            must_run_again=entry.get("must_run_again", False),
            finished_at=func.greatest(_made_at(entry), col(RunStep.started_at)),
        )
    )


def _keep_result(db: Connection, run_id: UUID, entry: Entry) -> None:
    if entry.get("result") is None:
        return
    row = {"run_id": run_id, "attempt": entry["attempt"], "index": entry["index"], "result": entry["result"]}
    db.execute(insert(StepResult).values(row).on_conflict_do_nothing())


def _apply_step_skipped(db: Connection, run_id: UUID, entry: Entry) -> None:
    _keep_result(db, run_id, entry)
    columns = {key: entry[key] for key in ("attempt", *KeptStep.__dataclass_fields__) if key != "result"}
    at = _made_at(entry)
    db.execute(
        insert(RunStep)
        .values(run_id=run_id, status=StepStatus.SKIPPED, started_at=at, finished_at=at, **columns)
        .on_conflict_do_nothing()
    )


def _apply_event(db: Connection, run_id: UUID, entry: Entry) -> None:
    db.execute(
        insert(RunEvent)
        .values(
            id=UUID(entry["id"]),
            run_id=run_id,
            created_at=_made_at(entry),
            level=entry["level"],
            message=entry["message"],
            data=entry["data"],
        )
        .on_conflict_do_nothing()
    )


def _apply_artifact(db: Connection, run_id: UUID, entry: Entry) -> None:
    db.execute(
        insert(Artifact)
        .values(
            id=UUID(entry["id"]),
            run_id=run_id,
            created_at=_made_at(entry),
            kind=entry["kind"],
            name=entry["name"],
            **{"metadata" if key == "details" else key: value for key, value in entry["columns"].items()},
        )
        .on_conflict_do_nothing()
    )


def _apply_template_used(db: Connection, run_id: UUID, entry: Entry) -> None:
    version = keep_version(db, name=entry["name"], template=entry["template"], definition=entry["definition"])
    told = event(run_id, f"runs version {version} of the template {entry['template']['kind']}", version=version)
    _apply_event(db, run_id, {**told, "id": entry["id"], "made": entry["made"]})


APPLY: dict[str, Callable[[Connection, UUID, Entry], None]] = {
    "run_opened": _apply_run_opened,
    "run_suspended": _apply_run_suspended,
    "run_closed": _apply_run_closed,
    "step_started": _apply_step_started,
    "step_finished": _apply_step_finished,
    "step_skipped": _apply_step_skipped,
    "event": _apply_event,
    "artifact": _apply_artifact,
    "template_used": _apply_template_used,
}
