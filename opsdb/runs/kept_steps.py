"""What stands of earlier attempts when a run resumes where it ended, instead of from its first step."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, and_, exists, select
from sqlmodel import col

from opsdb.errors import UsageError
from opsdb.runs.lookup import short_id
from opsdb.tables import Run, RunStep, StepResult, StepStatus

DONE = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
SEALED_FROM = "sealed_from"
"""In the value of a step that seals those before it: the number of the first. What they made stands, see lasting()."""
_HASH = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStep:
    """A step that succeeded, with what the runbook got from it."""

    index: int
    name: str
    command: str
    timeout_seconds: float
    definition: str | None
    """The version of the runbook that it was a step of."""
    exit_code: int | None
    result: dict[str, Any] | None

    @property
    def sealed_from(self) -> int | None:
        """The number of the first step that this one seals; None where it seals none."""
        return _sealed_from(self.result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What an attempt need not do again."""

    steps: list[KeptStep]
    """In order: those before the first that did not succeed in the end."""
    asked: tuple[str, str] | None
    """The name and the command of the approval that came next, and that nobody had given yet."""


def read_kept(db: Connection, *, run_id: UUID, attempts: range, version: str, resource: str | None) -> Kept:
    """What stands of these attempts, the first of which began with the first step while the others resumed.

    `version` is that of the runbook now, `resource` what the run has for itself. Raises UsageError that says why
    what was done does not stand any more.
    """
    kept: list[Row[Any]] = []
    asked = None
    for _attempt, steps in itertools.groupby(_steps(db, run_id, attempts), key=lambda step: step.attempt):
        rows = list(steps)
        done = succeeded(rows)
        if len(done) >= len(kept):  # an attempt that resumed begins with all that stood before it, if it comes so far
            kept, asked = done, _asked_after(done, rows)
    if kept:
        _check(db, run_id=run_id, kept=kept, version=version, resource=resource)
    return Kept(steps=[_kept_step(row) for row in kept], asked=asked)


def succeeded(steps: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Those of an attempt before the first that did not succeed, or of which nothing is known.

    A step that failed and was tried again at once is its last try.
    """
    kept = []
    for position, (step, following) in enumerate(itertools.zip_longest(steps, steps[1:]), start=1):
        if step.index != position:
            break
        if step.status in DONE:
            kept.append(step)
        elif following is None or (step.name, step.command) != (following.name, following.command):
            break
    return kept


def _asked_after(done: Sequence[Row[Any]], rows: Sequence[Row[Any]]) -> tuple[str, str] | None:
    """The approval for which the attempt was suspended, if it came right after these."""
    following = rows[rows.index(done[-1]) + 1 :] if done else rows
    asks = following and following[0].status == StepStatus.SUSPENDED
    return (following[0].name, following[0].command) if asks else None


def _kept_step(row: Row[Any]) -> KeptStep:
    return KeptStep(**{column: row._mapping[column] for column in KeptStep.__dataclass_fields__})


def _steps(db: Connection, run_id: UUID, attempts: range) -> Sequence[Row[Any]]:
    of_step = [
        col(StepResult.run_id) == col(RunStep.run_id),
        col(StepResult.attempt) == col(RunStep.attempt),
        col(StepResult.index) == col(RunStep.index),
    ]
    return db.execute(
        select(RunStep, col(StepResult.result))
        .outerjoin(StepResult, and_(*of_step))
        .where(col(RunStep.run_id) == run_id, col(RunStep.attempt).in_(attempts))
        .order_by(col(RunStep.attempt), col(RunStep.index))
    ).all()


def _check(db: Connection, *, run_id: UUID, kept: Sequence[Row[Any]], version: str, resource: str | None) -> None:
    name = short_id(run_id)
    instead = f"`ops retry {name}` starts with the first step"
    kind = db.scalar(select(col(Run.kind)).where(col(Run.id) == run_id))
    sealed = {
        index
        for step in kept
        if (first := _sealed_from(step.result)) is not None
        for index in range(first, step._mapping["index"])
    }
    for step in kept:
        if step.definition is None:
            raise UsageError(f"run {name}: its steps were recorded before steps could be kept. {instead}")
        if not _may_stand(step.definition, version):
            versions = f"{step.definition[:12]!r}, now {version[:12]!r}"
            raise UsageError(
                f"run {name}: the runbook {kind} has changed since its steps ran (version {versions}). {instead}"
            )
        if step.must_run_again and step._mapping["index"] not in sealed:
            raise UsageError(
                f"run {name}: step {step.index}, {step.name}, succeeded and must run again all the same, for what it "
                f"made ended with its attempt. {instead}"
            )
    other = _did_the_same(db, run_id=run_id, kind=kind or "", resource=resource, kept=kept) if resource else None
    if other is not None:
        what = (resource or "").replace(":", " ", 1)
        raise UsageError(f"run {name}: run {short_id(other)} did the same to {what} after its steps ran. {instead}")


def _sealed_from(result: dict[str, Any] | None) -> int | None:
    value = (result or {}).get("value")
    first = value.get(SEALED_FROM) if isinstance(value, dict) else None
    return first if isinstance(first, int) else None


def _may_stand(recorded: str, version: str) -> bool:
    """Whether steps of the recorded version can stand in this one; then their names and commands decide.

    Templates have a hash for a version. Of a runbook in Python a hash is what was recorded before it had versions.
    """
    return recorded == version or (_HASH.match(recorded) is not None and _HASH.match(version) is None)


def _did_the_same(
    db: Connection, *, run_id: UUID, kind: str, resource: str | None, kept: Sequence[Row[Any]]
) -> UUID | None:
    """Another run of the kind that did a step to the same thing after these: by its steps, for it may have waited."""
    since = max(step.finished_at for step in kept)
    step_since = exists().where(
        col(RunStep.run_id) == col(Run.id),
        col(RunStep.started_at) > since,
        col(RunStep.status) != StepStatus.SKIPPED,
    )
    same = (col(Run.kind) == kind, col(Run.resource) == resource, col(Run.id) != run_id)
    return db.scalar(select(col(Run.id)).where(*same, step_since).limit(1))
