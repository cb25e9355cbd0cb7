"""postpone(): a run that starts again at a time of its own choice, and takes no slot until then."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect.states import Scheduled

from flows.engine.active_run import PlannedStep, current_run
from flows.engine.suspension import Suspension
from opsdb.errors import UsageError
from opsdb.states import postponed_message


def postpone(until_at: datetime, reason: str) -> None:
    """End this attempt and its process; another attempt begins at `until_at`, with the runbook's first line.

    Nothing of this attempt is kept, so what it did must bear to be done again. A run that is cancelled meanwhile ends
    at once. Raises UsageError for a run in no lane. In a dry run it returns.
    """
    run = current_run()
    if run.plan is not None:
        run.plan.append(PlannedStep(next(run.step_numbers), "wait", reason, 0, {}, preflight=False))
        return
    if run.clock is None:
        raise UsageError(f"a run in no lane cannot be postponed: it would wait, since {reason}")
    until_at += timedelta(seconds=1) - timedelta(microseconds=until_at.microsecond or 1_000_000)  # its message says it
    message = postponed_message(until_at, reason)
    run.story.waits(message)
    waits = Scheduled(scheduled_time=until_at, message=message)  # type: ignore[var-annotated]
    raise Suspension(run_id=run.id, attempt=run.attempt, waits=waits)
