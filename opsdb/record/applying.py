"""Applying what a run process said of its run to the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.record.entries import event
from opsdb.record.journal import Entry, age_seconds
from opsdb.runs.kept_steps import KeptStep
from opsdb.runs.runs import RunFacts, apply_states, facts_of_row
from opsdb.runs.template_versions import keep_version
from opsdb.states import State
from opsdb.tables import Artifact, Lane, Run, RunEvent, RunStep, StepResult, StepStatus


def apply_entry(db: Connection, entry: Entry) -> None:
    """Write one entry into the tables. Applying it again changes nothing."""
    APPLY[entry["op"]](db, UUID(entry["run_id"]), entry)


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
        insert(Artifact.__table__)  # type: ignore[attr-defined]  # a class has a `metadata` of its own
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
