"""What a run process says of its run: each kind of entry, with its line in the journal and what it changes in tables.

An entry is applied as it is read back from its line, so that one which is applied at once and one which the next
version delivers are alike. Applying it late, or again, changes nothing more. A new field needs a default, for lines on
disk that lack it; keys that no field has are ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID, uuid4

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.record.journal import Line, age_seconds, stamp
from opsdb.runs.kept_steps import KeptStep
from opsdb.runs.runs import RunFacts, apply_states, facts_of_row
from opsdb.runs.template_versions import keep_version
from opsdb.states import State
from opsdb.storable import storable
from opsdb.tables import Artifact, Run, RunEvent, RunStep, StepResult, StepStatus

INLINE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Entry(ABC):
    """Something that a run process says of its run. The names of its fields are the keys of its line."""

    op: ClassVar[str]
    """The kind, as the journal calls it."""
    flat: ClassVar[str] = ""
    """The field whose own fields stand in the line beside the others."""

    run_id: UUID
    made: dict[str, Any] = field(default_factory=stamp, kw_only=True)

    def __init_subclass__(cls, *, op: str) -> None:
        cls.op = op
        _KINDS[op] = cls

    def line(self) -> Line:
        """The entry as the journal has it."""
        values = {one.name: _plain(getattr(self, one.name)) for one in fields(self)}
        beside = values.pop(self.flat, {})
        line: Line = storable({"op": self.op, **values, **beside})
        return line

    @abstractmethod
    def apply(self, db: Connection) -> None:
        """Write what it says into the tables."""

    def made_at(self) -> ColumnElement[datetime]:
        """When it was made, on the database's clock."""
        return func.clock_timestamp() - _interval(age_seconds(self.made))


_KINDS: dict[str, type[Entry]] = {}
_UNSAID: dict[type, str] = {State: "source", RunFacts: "id"}
"""What a line leaves out: it has a state from Prefect, and the id of its run."""
_UNSAID_WHEN_NONE = ("due_at", "name")
"""What lines of earlier versions do not say."""


def apply_line(db: Connection, line: Line) -> None:
    """Write what a line says into the tables. Applying it again changes nothing. Raises as `read_line`."""
    read_line(line).apply(db)


def read_line(line: Line) -> Entry:
    """The entry that a line holds.

    Raises ValueError for a kind that is not known, ValidationError for a line that does not say what its kind must.
    """
    if line.get("op") not in _KINDS:
        raise ValueError(f"the kind {line.get('op')!r} is not known: it is of a newer version, or damaged")
    inner = {_KINDS[line["op"]].flat: line | {"id": line.get("run_id")}}
    return _reader(line["op"]).validate_python(line | inner)


@cache
def _reader(op: str) -> TypeAdapter[Entry]:
    return TypeAdapter(_KINDS[op])


@dataclass(frozen=True, kw_only=True)
class RunOpened(Entry, op="run_opened"):
    """The run process has started."""

    flat = "facts"
    facts: RunFacts
    attempt: int
    states: list[State]
    claimed_by: str | None
    deadline_seconds: float | None
    max_attempts: int = 1
    resource: str | None = None

    def apply(self, db: Connection) -> None:
        apply_states(db, facts=self.facts, states=self.states)
        db.execute(update(Run).where(col(Run.id) == self.run_id).values(max_attempts=self.max_attempts))
        values: dict[str, Any] = {"claimed_by": self.claimed_by, "resource": self.resource}
        if self.deadline_seconds is not None:
            deadline = self.made_at() + _interval(self.deadline_seconds)
            values["deadline_at"] = func.coalesce(col(Run.deadline_at), deadline)
        this_attempt = [col(Run.id) == self.run_id, col(Run.attempt) == self.attempt]
        db.execute(update(Run).where(*this_attempt, col(Run.finished_at).is_(None)).values(**values))


@dataclass(frozen=True, kw_only=True)
class RunSuspended(Entry, op="run_suspended"):
    """Prefect took up the wish of the run process to wait: this is the state."""

    state: State

    def apply(self, db: Connection) -> None:
        run = db.execute(select(Run).where(col(Run.id) == self.run_id)).one_or_none()
        if run is not None:
            apply_states(db, facts=facts_of_row(run), states=[self.state])


@dataclass(frozen=True, kw_only=True)
class RunClosed(Entry, op="run_closed"):
    """The runbook returned or raised. `error` is `{type, message, stack, context}`; the outcome `succeeded`, `failed`,
    or None when others say how the run ended."""

    attempt: int
    result: Any
    error: dict[str, Any] | None
    outcome: str | None

    @classmethod
    def of(
        cls,
        run_id: UUID,
        *,
        attempt: int,
        result: Any = None,
        error: Mapping[str, Any] | None = None,
        interrupted: bool = False,
    ) -> RunClosed:
        """The entry of an attempt that ended so; with `interrupted` it was stopped from outside."""
        if error is not None:
            error = {**error, "context": {**error.get("context", {}), "attempt": attempt}}
        outcome = None if interrupted else "succeeded" if error is None else "failed"
        return cls(run_id, attempt=attempt, result=result, error=error, outcome=outcome)

    def apply(self, db: Connection) -> None:
        values: dict[str, Any] = {"result": self.result, "error": self.error}
        if self.outcome is not None:
            values["outcome"] = self.outcome
            values["outcome_at"] = func.coalesce(col(Run.outcome_at), func.clock_timestamp())
        this_attempt = [col(Run.id) == self.run_id, col(Run.attempt) == self.attempt]
        db.execute(update(Run).where(*this_attempt).values(**values))


@dataclass(frozen=True, kw_only=True)
class StepStarted(Entry, op="step_started"):
    """A step has started. Indexes count from 1. `definition` is the version of its runbook; with `must_run_again` what
    it does is put back unless it ends well."""

    attempt: int
    index: int
    name: str
    command: str
    timeout_seconds: float
    definition: str | None = None
    must_run_again: bool = False

    def apply(self, db: Connection) -> None:
        columns = _without(vars(self), "made")
        _insert_once(db, RunStep, **columns, status=StepStatus.RUNNING, started_at=self.made_at())


@dataclass(frozen=True, kw_only=True)
class StepFinished(Entry, op="step_finished"):
    """A step has ended."""

    attempt: int
    index: int
    status: StepStatus
    exit_code: int | None = None
    error: str | None = None
    result: dict[str, Any] | None = None
    must_run_again: bool = False

    def apply(self, db: Connection) -> None:
        _keep_result(db, self.run_id, attempt=self.attempt, index=self.index, result=self.result)
        step = {"run_id": self.run_id, "attempt": self.attempt, "index": self.index}
        db.execute(
            update(RunStep)
            .filter_by(**step)
            .where(col(RunStep.status).in_((StepStatus.RUNNING, StepStatus.INTERRUPTED)))
            .values(
                **_without(vars(self), "made", "result", *step),
                finished_at=func.greatest(self.made_at(), col(RunStep.started_at)),
                progress=None,
            )
        )


@dataclass(frozen=True, kw_only=True)
class StepSkipped(Entry, op="step_skipped"):
    """A step is not done again: it succeeded in an earlier attempt. Its index is that in this one."""

    flat = "step"
    attempt: int
    step: KeptStep

    def apply(self, db: Connection) -> None:
        columns = {one.name: getattr(self.step, one.name) for one in fields(self.step)}
        _keep_result(db, self.run_id, attempt=self.attempt, index=self.step.index, result=columns.pop("result"))
        columns |= dict.fromkeys(("started_at", "finished_at"), self.made_at())
        _insert_once(db, RunStep, run_id=self.run_id, attempt=self.attempt, status=StepStatus.SKIPPED, **columns)


@dataclass(frozen=True, kw_only=True)
class Event(Entry, op="event"):
    """Something that an operator may want to know."""

    message: str
    level: str = "info"
    data: dict[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid4)

    def apply(self, db: Connection) -> None:
        _insert_once(db, RunEvent, **_without(vars(self), "made"), created_at=self.made_at())


@dataclass(frozen=True, kw_only=True)
class ArtifactMade(Entry, op="artifact"):
    """Something the run made; `columns` are others of `ops.artifacts`.

    Raises ValueError for over 1 MB of text, which belongs into a file.
    """

    kind: str
    name: str
    columns: dict[str, Any]
    id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        if len((self.columns.get("content_text") or "").encode()) > INLINE_BYTES:
            raise ValueError(f"artifact {self.name!r} holds over 1 MB of text: write a file and give its storage_path")

    def apply(self, db: Connection) -> None:
        columns = {"metadata" if key == "details" else key: value for key, value in self.columns.items()}
        own = _without(vars(self), "made", "columns")
        _insert_once(db, Artifact.__table__, **own, **columns, created_at=self.made_at())  # type: ignore[attr-defined]  # a class has a `metadata` of its own


@dataclass(frozen=True, kw_only=True)
class TemplateUsed(Entry, op="template_used"):
    """The run executes this template: the file's name without its ending, and all that the file says."""

    name: str
    template: dict[str, Any]
    definition: str
    id: UUID = field(default_factory=uuid4)

    def apply(self, db: Connection) -> None:
        version = keep_version(db, name=self.name, template=self.template, definition=self.definition)
        message = f"runs version {version} of the template {self.template['kind']}"
        Event(self.run_id, made=self.made, id=self.id, message=message, data={"version": version}).apply(db)


def _plain(value: Any) -> Any:
    """The value of a field as its line has it."""
    if is_dataclass(value):
        said = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        said = {name: one for name, one in said.items() if one is not None or name not in _UNSAID_WHEN_NONE}
        return _without(said, _UNSAID.get(type(value), ""))
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _interval(seconds: float) -> ColumnElement[Any]:
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _insert_once(db: Connection, table: Any, **columns: Any) -> None:
    db.execute(insert(table).values(**columns).on_conflict_do_nothing())


def _keep_result(db: Connection, run_id: UUID, *, attempt: int, index: int, result: dict[str, Any] | None) -> None:
    if result is not None:
        _insert_once(db, StepResult, run_id=run_id, attempt=attempt, index=index, result=result)
