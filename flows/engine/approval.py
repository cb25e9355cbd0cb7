"""approval(): a step that a person takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.states import Suspended

from flows.engine.active_run import PlannedStep, current_run
from flows.engine.suspension import Suspension
from opsdb.errors import PreflightError, UsageError
from opsdb.record.entries import StepFinished, StepStarted
from opsdb.states import APPROVAL
from opsdb.tables import StepStatus


def approval(name: str, question: str, *, timeout: float, advice: str = "") -> None:
    """Resume when somebody approved, with `ops approve` or in Prefect's UI; fail when nobody did within `timeout` s.

    The run ends its process here and gives up its slot and what it holds for itself. When it resumes, it begins another
    attempt, in which the steps up to here are not done again. So none of them may make anything that ends with its
    attempt: UsageError, as for a run in no lane. What was approved is this question and no other: PreflightError. The
    advice that stands behind it may be another one by then.
    """
    run = current_run()
    index = next(run.step_numbers)
    about = f"wait for `ops approve`: {question}"
    asked = f"{question} {advice}".rstrip()
    if run.plan is not None:
        run.plan.append(PlannedStep(index, name, f"wait for `ops approve`: {asked}", timeout, {}, preflight=False))
        return
    if run.skip(index, name=name, command=about, shown=about) is not None:
        return
    run.make_sure_of(name)
    key: dict[str, Any] = {"attempt": run.attempt, "index": index}
    facts: dict[str, Any] = {"name": name, "command": about, "definition": run.version}
    started = StepStarted(run.id, **key, **facts, timeout_seconds=timeout)
    run.story.step_begins(index, name, about)
    if run.approved is not None:
        if run.approved != (name, about):
            raise PreflightError(f"another question was approved than step {name} asks now: {question}")
        run.approved = None
        run.record(started)
        run.record(StepFinished(run.id, **key, status=StepStatus.SUCCEEDED))
        run.story.step_ended(
            index, "approved", note=run.life.approval.approving if run.life and run.life.approval else ""
        )
        return
    if run.clock is None:
        raise UsageError(f"step {name}: a run in no lane cannot wait for an approval")
    if run.bound:
        raise UsageError(f"step {name}: no approval can come after {run.bound[0]}, whose work ends with its attempt")
    run.record(started)
    run.record(StepFinished(run.id, **key, status=StepStatus.SUSPENDED))
    until_at = run.clock() + timedelta(seconds=timeout)
    run.story.asks(index, asked, until_at=until_at)
    message = f"{APPROVAL} until {until_at:%Y-%m-%d %H:%M:%S} UTC: {asked}"
    waits = Suspended(pause_expiration_time=until_at, pause_key=f"{name}-{run.attempt}", message=message)  # type: ignore[var-annotated]
    raise Suspension(run_id=run.id, attempt=run.attempt, waits=waits)
