"""What a run process says of its run, as entries that can be applied late, and more than once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

from opsdb.record.journal import Entry, stamp
from opsdb.runs.kept_steps import KeptStep
from opsdb.runs.runs import RunFacts
from opsdb.states import State
from opsdb.storable import storable
from opsdb.tables import StepStatus

INLINE_BYTES = 1024 * 1024


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
    """A step has started. Indexes count from 1. `definition` is the version of its runbook."""
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


def _entry(operation: str, run_id: UUID, **values: Any) -> Entry:
    entry: Entry = storable({"op": operation, "run_id": str(run_id), "made": stamp(), **values})
    return entry


def _state(state: State) -> dict[str, Any]:
    at = state.at.isoformat()
    return {"id": str(state.id), "at": at, "type": state.type, "name": state.name, "message": state.message}
