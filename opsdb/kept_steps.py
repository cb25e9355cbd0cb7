"""What stands of earlier attempts when a run goes on where it ended, instead of from its first step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select
from sqlmodel import col

from opsdb.errors import UsageError
from opsdb.lookup import short_id
from opsdb.tables import Run, RunStep, StepStatus

DONE = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStep:
    """A step that succeeded, with what the runbook got from it."""

    index: int
    name: str
    command: str
    timeout_seconds: float
    exit_code: int | None
    result: dict[str, Any] | None


def kept_steps(
    db: Connection, *, run_id: UUID, before_attempt: int, definition: str, resource: str | None
) -> list[KeptStep]:
    """The steps that an attempt need not do again, in order: those before the first that did not succeed in the end.

    They are those of the latest attempt that came as far as a step. `definition` is that of the runbook now. Raises
    UsageError that says why they do not stand any more.
    """
    kept = _succeeded(_steps(db, run_id, before_attempt))
    if kept:
        _check(db, run_id=run_id, kept=kept, definition=definition, resource=resource)
    return [KeptStep(**{column: step._mapping[column] for column in KeptStep.__dataclass_fields__}) for step in kept]


def _succeeded(steps: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Those before the first that did not succeed. One that failed and was tried again at once is its last try."""
    kept = []
    for step, following in itertools.zip_longest(steps, steps[1:]):
        if step.status in DONE:
            kept.append(step)
        elif following is None or (step.name, step.command) != (following.name, following.command):
            break
    return kept


def _steps(db: Connection, run_id: UUID, before_attempt: int) -> Sequence[Row[Any]]:
    of_run = (col(RunStep.run_id) == run_id, col(RunStep.attempt) < before_attempt)
    latest = select(func.max(col(RunStep.attempt))).where(*of_run).scalar_subquery()
    return db.execute(select(RunStep).where(*of_run, col(RunStep.attempt) == latest).order_by(col(RunStep.index))).all()


def _check(db: Connection, *, run_id: UUID, kept: Sequence[Row[Any]], definition: str, resource: str | None) -> None:
    name = short_id(run_id)
    instead = f"`ops retry {name}` starts with the first step"
    run = db.execute(select(col(Run.kind), col(Run.definition)).where(col(Run.id) == run_id)).one()
    if run.definition != definition:
        raise UsageError(f"run {name}: the runbook {run.kind} has changed since its steps ran. {instead}")
    for step in kept:
        if step.must_run_again:
            raise UsageError(
                f"run {name}: step {step.index}, {step.name}, succeeded and must run again all the same, for what it "
                f"made ended with its attempt. {instead}"
            )
    since = max(step.finished_at for step in kept)
    other = db.scalar(
        select(col(Run.id))
        .where(
            col(Run.kind) == run.kind,
            col(Run.resource) == resource,
            col(Run.started_at) > since,
            col(Run.id) != run_id,
        )
        .limit(1)
    )
    if other is not None:
        what = (resource or "").replace(":", " ", 1)
        raise UsageError(f"run {name}: run {short_id(other)} did the same to {what} after its steps ran. {instead}")
