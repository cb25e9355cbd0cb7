"""step(): one shell command of a runbook, as a Prefect task with its row in `ops.run_steps`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.engine.active_run import ActiveRun, PlannedStep, current_run
from flows.engine.preflight import as_preflight_errors
from flows.engine.progress import Measure
from flows.shell.environment import step_environment
from flows.shell.masking import MASK, SecretPatterns
from flows.shell.output import OutputLimits
from flows.shell.run import ShellFailedError, ShellResult, ShellTimeoutError, run_shell
from opsdb.errors import StepError, StepFailedError, UsageError
from opsdb.record.entries import StepFinished, StepStarted
from opsdb.runs.lookup import short_id
from opsdb.shown import shown_lines
from opsdb.tables import StepStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step printed. In a dry run that is unknown: `stdout` is None, and what is asked for is made up."""

    step: str
    stdout: str | None

    def word(self, name: str) -> str:
        """The last word of the line `name: ...`. Raises StepFailedError where there is no such line."""
        return "(unknown)" if self.stdout is None else self._found(rf"^{re.escape(name)}: (?:.* )?(\S+)$", name)

    def number(self, name: str) -> int:
        """The whole number with which that line begins."""
        return 1 if self.stdout is None else int(self._found(rf"^{re.escape(name)}: (\d+)\b", name))

    @property
    def sha256(self) -> str:
        """What `sha256sum` printed of its standard input."""
        return "0" * 64 if self.stdout is None else self._found(r"^([0-9a-f]{64})  -$", "sha256")

    def _found(self, pattern: str, what: str) -> str:
        match = re.search(pattern, self.stdout or "", re.MULTILINE)
        if match is None:
            raise StepFailedError(f"step {self.step} succeeded, but printed no {what}: read its log")
        return match[1]


def step(
    name: str,
    command: str,
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    working_dir: Path | None = None,
    must_run_again: bool = False,
    progress: Measure | None = None,
) -> StepOutput:
    """Run one shell command as a step of the current runbook.

    `timeout` is in seconds. `env` is added to a small allow-list of this process's environment: runbooks in Python pass
    values that way, and templates put plain words into the text. `secrets` are environment too, and masked in all
    output. An attempt that keeps the steps of an earlier one does not do this one again, and gets the earlier output;
    what makes something that ends with its attempt says `must_run_again`. `progress` is how to see how far it is.
    Raises StepFailedError or StepTimeoutError.
    """
    run = current_run()
    index = next(run.step_numbers)
    if run.plan is not None:
        step_environment(env=env or {}, secrets=secrets or {}, run_id=str(run.id), step=str(index))
        shown = {**(env or {}), **dict.fromkeys(secrets or (), MASK.decode())}
        run.plan.append(PlannedStep(index, name, command, timeout, shown, preflight=False))
        return StepOutput(name, None)
    masked = _masked(command, secrets or {})
    if kept := run.skip(index, name=name, command=command, shown=masked):
        return StepOutput(name, str((kept.result or {}).get("stdout", "")))

    def execute() -> ShellResult:
        log_path = run.log_dir / f"{index:02d}-{name}.log"
        try:
            with log_kept(run, log_path):
                result = run_shell(
                    command,
                    timeout_seconds=timeout,
                    env={**(env or {}), **(progress.environment if progress else {})},
                    secrets=secrets or {},
                    run_id=str(run.id),
                    step=str(index),
                    name=name,
                    log_path=log_path,
                    working_dir=working_dir or Path("/"),
                    on_line=get_run_logger().info,
                    grace_seconds=run.settings.timings.grace,
                    limits=OutputLimits(log_bytes=run.settings.log_max_bytes),
                    rest=f"`ops logs {short_id(run.id)} --step {index}` has more",
                )
        except (ShellFailedError, ShellTimeoutError) as error:
            _note_result(run, name=name, result=error.result)
            raise
        _note_result(run, name=name, result=result)
        return result

    result = _recorded(
        run,
        index=index,
        name=name,
        command=command,
        shown=masked,
        timeout=timeout,
        work=execute,
        given=lambda result: {"stdout": result.stdout},
        must_run_again=must_run_again,
        progress=progress,
    )
    return StepOutput(name, result.stdout)


def _masked(command: str, secrets: Mapping[str, str]) -> str:
    """The command as it is shown. Of one whose secrets cannot be masked nothing is: the step says why, and fails."""
    try:
        return SecretPatterns(secrets).mask(command) if secrets else command
    except (UsageError, ValueError):
        return MASK.decode()


@contextmanager
def log_kept(run: ActiveRun, path: Path) -> Iterator[None]:
    """Register the log that a command writes, however it ends: that of one which is cancelled is wanted the most."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a command that was never started has none
            size = path.stat().st_size
            run.artifact(kind="file", name=path.name, storage_path=str(path), size_bytes=size, mime_type="text/plain")


def _note_result(run: ActiveRun, *, name: str, result: ShellResult) -> None:
    """Say what an operator should know of the end of a step."""
    if result.log_error:
        run.event(f"the log of step {name} is not complete: {result.log_error}", level="warning")
    if result.survivors:
        run.event(f"processes of step {name} could not be killed", level="error", pids=list(result.survivors))
    elif result.leftovers_killed:
        run.event(f"step {name} left processes behind: killed", level="warning", processes=result.leftovers_killed)


@overload
def action(name: str, work: Callable[[], T], *, about: str, preflight: Literal[True]) -> T: ...


@overload
def action(
    name: str, work: Callable[[], T], *, about: str, must_run_again: bool = False, progress: Measure | None = None
) -> T | None: ...


def action(
    name: str,
    work: Callable[[], T],
    *,
    about: str,
    preflight: bool = False,
    must_run_again: bool = False,
    progress: Measure | None = None,
) -> T | None:
    """Run Python as a step of the current runbook, with `about` where the command would stand.

    It has no timeout: it is for work that takes moments and is safer in Python than in shell. A `preflight` only looks:
    a dry run executes it, and what the system, a database or Prefect refuses it is a PreflightError. Of all others a
    dry run knows no result: None.

    An attempt that keeps the steps of an earlier one does not do this one again, but for a preflight, and gets what it
    returned then. So what is not JSON must run again, as must what says `must_run_again`. No secret may be in a result.
    """
    run = current_run()
    index = next(run.step_numbers)
    if preflight:
        work = as_preflight_errors(name)(work)
    if run.plan is not None:
        run.plan.append(PlannedStep(index, name, about, 0, {}, preflight=preflight))
        return work() if preflight else None
    kept = run.next_kept(name, about) if preflight else run.skip(index, name=name, command=about, shown=about)
    known = kept.result["value"] if kept and kept.result else None
    if kept and not preflight:
        return cast("T", known)

    def look_again() -> T:
        work()
        return cast("T", known)

    return _recorded(
        run,
        index=index,
        name=name,
        command=about,
        shown=about,
        timeout=0,
        work=look_again if kept and kept.result else work,
        given=_value,
        must_run_again=must_run_again,
        preflight=preflight,
        progress=progress,
    )


def _value(result: object) -> dict[str, Any] | None:
    """How what an action returned is kept; None for what JSON cannot give back."""
    try:
        same = json.loads(json.dumps(result, allow_nan=False)) == result
    except (TypeError, ValueError):
        return None
    return {"value": result} if same else None


@task(cache_policy=NO_CACHE, persist_result=False)
def _step_task(work: Callable[[], T]) -> T:
    return work()


def _recorded(
    run: ActiveRun,
    *,
    index: int,
    name: str,
    command: str,
    shown: str,
    timeout: float,
    work: Callable[[], T],
    given: Callable[[T], dict[str, Any] | None],
    must_run_again: bool,
    preflight: bool = False,
    progress: Measure | None = None,
) -> T:
    run.make_sure_of(name)
    key: dict[str, Any] = {"attempt": run.attempt, "index": index}
    about: dict[str, Any] = {"name": name, "command": command, "definition": run.version}
    run.record(StepStarted(run.id, **key, **about, timeout_seconds=timeout, must_run_again=run.puts_back))
    run.story.step_begins(index, name, shown)
    try:
        with run.meter.measuring(index, progress):
            result = _step_task.with_options(name=name, task_run_name=name)(work)
    except BaseException as error:
        status = StepStatus.FAILED if isinstance(error, Exception) else StepStatus.CANCELLED
        exit_code = error.exit_code if isinstance(error, StepError) else None
        message = shown_lines(str(error)) or type(error).__name__
        ended: dict[str, Any] = {"status": status, "exit_code": exit_code, "must_run_again": run.puts_back}
        run.record(StepFinished(run.id, **key, **ended, error=message))
        run.story.step_ended(index, status, exit_code=exit_code, error=message)
        raise
    exit_code = result.exit_code if isinstance(result, ShellResult) else None
    kept = given(result)
    again = not preflight and (must_run_again or kept is None)
    if again:
        run.bound.append(name)
    run.record(
        StepFinished(run.id, **key, status=StepStatus.SUCCEEDED, exit_code=exit_code, result=kept, must_run_again=again)
    )
    run.story.step_ended(index, StepStatus.SUCCEEDED, exit_code=exit_code)
    return result
