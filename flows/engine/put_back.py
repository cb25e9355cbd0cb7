"""What a run must not leave half done: work that is done when a block of steps ends in any other way than well.

A step that is killed leaves nothing alive; but what it changed elsewhere may be something that another program carries
on with. The run's process puts that back before it ends: after a failure, a time limit, a cancellation, the end of its
worker. Where the process itself is killed, the next attempt of the run does it first, which the room starts by itself
for a runbook with `max_attempts=2`. Its step has the number 0 then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import Pause
from sqlalchemy import Connection, and_, select
from sqlmodel import col

from flows.engine.active_run import ActiveRun, current_run
from flows.engine.ops_database import in_ops
from flows.engine.step import log_kept
from flows.engine.suspension import Suspension
from flows.shell.output import OutputLimits
from flows.shell.run import run_shell
from opsdb.errors import StepError
from opsdb.processes.running import note_putting_back
from opsdb.record.entries import StepFinished, StepStarted
from opsdb.record.journal import journal_dir
from opsdb.record.recorder import deliver_abandoned
from opsdb.shown import shown_lines
from opsdb.tables import RunStep, StepResult, StepStatus

NAME = "put_back"
BEFORE_THE_FIRST = 0
"""The number of the step when it puts back what an earlier attempt left: it stands before all that are counted."""


@dataclass(frozen=True, slots=True)
class Account:
    """What was found and put back: a sentence for people, and the same as data."""

    message: str
    left: dict[str, Any]


@contextmanager
def put_back_unless_done(work: Callable[[], Account], *, about: str, seconds: float) -> Iterator[None]:
    """Do `work` when the block ends by an exception of any kind, which is raised again with the account in its message.

    `work` uses `put_back_shell` for commands, takes at most `seconds`, and can be repeated. What it says is an event,
    and the result of the run. No approval may be asked for in the block.
    """
    run = current_run()
    if run.plan is not None:
        yield
        return
    with _marked(run):
        try:
            yield
        except (Suspension, Pause):
            raise
        except BaseException as error:
            if run.fenced.is_set():
                raise  # this process has no effect any more
            done = put_back(work, index=next(run.step_numbers), about=about, seconds=seconds)
            if isinstance(error, StepError):
                error.args = (shown_lines(f"{error}\nbefore it ended: {done.said}"),)
            raise


@dataclass(frozen=True, slots=True)
class PutBack:
    """What came of it, for people, and whether all was put back."""

    said: str
    whole: bool


def put_back(work: Callable[[], Account], *, index: int, about: str, seconds: float) -> PutBack:
    """Do the work as a step that is recorded. Returns what it says; an error of it is one of the run's events."""
    run = current_run()
    key: dict[str, Any] = {"attempt": run.attempt, "index": index}
    run.record(
        StepStarted(
            run.id,
            **key,
            name=NAME,
            command=about,
            timeout_seconds=seconds,
            definition=run.version,
            must_run_again=True,
        )
    )
    run.story.step_begins(index, NAME, about)
    try:
        account = work()
    except Exception as error:
        message = shown_lines(str(error)) or type(error).__name__
        run.record(StepFinished(run.id, **key, status=StepStatus.FAILED, error=message))
        run.story.step_ended(index, StepStatus.FAILED, error=message)
        run.event(f"not everything was put back: {message}", level="error")
        return PutBack(f"not everything was put back: {message}", whole=False)
    run.record(StepFinished(run.id, **key, status=StepStatus.SUCCEEDED))
    run.story.step_ended(index, StepStatus.SUCCEEDED)
    run.left = account.left
    run.event(account.message, level="warning", **account.left)
    return PutBack(account.message, whole=True)


def put_back_shell(name: str, command: str, *, env: dict[str, str], seconds: float) -> str:
    """Run shell as a part of putting back, without a step of its own. Returns the end of its stdout.

    Raises StepFailedError or StepTimeoutError.
    """
    run = current_run()
    log_path = run.log_dir / f"{NAME}-{name}.log"
    with log_kept(run, log_path):
        return run_shell(
            command,
            timeout_seconds=seconds,
            env=env,
            secrets={},
            run_id=str(run.id),
            step=NAME,
            name=f"{NAME} {name}",
            log_path=log_path,
            working_dir=Path("/"),
            on_line=get_run_logger().info,
            grace_seconds=run.settings.timings.grace,
            limits=OutputLimits(log_bytes=run.settings.log_max_bytes),
        ).stdout


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """An attempt whose process was killed in the middle, with nothing put back."""

    attempt: int
    step: str
    """The step that it did not end."""
    noted: Any
    """What the action that was asked for returned in that attempt."""
    printed: str | None
    """What the step that was asked for printed in it."""


def broken_off(*, block: Sequence[str], noted: str, output: str) -> BrokenOff | None:
    """The last earlier attempt that was in the block of steps when its process was killed, if nothing was put back.

    `block` are the names of its steps in order: the last one's success is the end of the block. It comes with what its
    action `noted` returned and its step `output` printed. A run in no lane has no record: None.
    """
    run = current_run()
    if run.plan is not None or not run.in_lane or run.attempt == 1:
        return None
    return in_ops(run.settings, lambda db: _broken_off(db, run, block, noted, output))


def _broken_off(db: Connection, run: ActiveRun, block: Sequence[str], noted: str, output: str) -> BrokenOff | None:
    deliver_abandoned(db.engine, journal_dir(run.settings))
    same = [getattr(StepResult, name) == getattr(RunStep, name) for name in ("run_id", "attempt", "index")]
    rows = db.execute(
        select(RunStep, col(StepResult.result))
        .outerjoin(StepResult, and_(*same))
        .where(col(RunStep.run_id) == run.id, col(RunStep.attempt) < run.attempt)
        .order_by(col(RunStep.attempt).desc(), col(RunStep.started_at), col(RunStep.index))
    ).all()
    for attempt, found in itertools.groupby(rows, key=lambda row: row.attempt):
        steps = list(found)
        inside = [step for step in steps if step.name in block and step.status != StepStatus.SKIPPED]
        done = [step for step in steps if step.status == StepStatus.SUCCEEDED]
        ended = [step.name for step in done]
        # the one before the first put back what was left by the attempt before this one
        own = [step.name for step in done if step._mapping["index"] > BEFORE_THE_FIRST]
        if inside and not {NAME, block[-1]}.intersection(own):
            results = {step.name: step.result or {} for step in steps}
            returned, printed = results.get(noted, {}).get("value"), results.get(output, {}).get("stdout")
            return BrokenOff(attempt, inside[-1].name, returned, printed)
        if inside or NAME in ended:
            return None
    return None


@contextmanager
def _marked(run: ActiveRun) -> Iterator[None]:
    """Its worker and the sweeper give a run that is cancelled the time to put back."""
    run.puts_back = True
    if run.in_lane:
        note_putting_back(run.settings, run.id, True)
    try:
        yield
    finally:
        run.puts_back = False
        if run.in_lane:
            note_putting_back(run.settings, run.id, False)
