"""step(): one shell command of a runbook, as a Prefect task with its row in `ops.run_steps`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.engine.active_run import ActiveRun, PlannedStep, current_run
from flows.engine.preflight import looking
from flows.shell.environment import step_environment
from flows.shell.masking import MASK
from flows.shell.output import OutputLimits
from flows.shell.run import ShellFailedError, ShellResult, ShellTimeoutError, run_shell
from opsdb.errors import StepError
from opsdb.record.entries import StepFinished, StepStarted
from opsdb.tables import StepStatus

T = TypeVar("T")


def step(
    name: str,
    command: str,
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    working_dir: Path | None = None,
    planned: str = "",
    must_run_again: bool = False,
) -> ShellResult:
    """Run one shell command as a step of the current runbook.

    `timeout` is in seconds. `env` is added to a small allow-list of this process's environment: runbooks in Python pass
    values that way, and templates put plain words into the text. `secrets` are environment too, and masked in all
    output. `planned` is what a dry run takes for the standard output. An attempt that keeps the steps of an earlier one
    does not do this one again, and gets the standard output of then; what makes something that ends with its attempt
    says `must_run_again`. Raises StepFailedError or StepTimeoutError.
    """
    run = current_run()
    index = next(run.step_numbers)
    if run.plan is not None:
        step_environment(env=env or {}, secrets=secrets or {}, run_id=str(run.id), step=str(index))
        shown = {**(env or {}), **dict.fromkeys(secrets or (), MASK.decode())}
        run.plan.append(PlannedStep(index, name, command, timeout, shown, preflight=False))
        return _result_of(planned)
    if kept := run.skip(index, name=name, command=command):
        return _result_of(str((kept.result or {}).get("stdout", "")))

    def execute() -> ShellResult:
        log_path = run.log_dir / f"{index:02d}-{name}.log"
        try:
            result = run_shell(
                command,
                timeout_seconds=timeout,
                env=env or {},
                secrets=secrets or {},
                run_id=str(run.id),
                step=str(index),
                name=name,
                log_path=log_path,
                working_dir=working_dir or Path("/"),
                on_line=get_run_logger().info,
                grace_seconds=run.settings.timings.grace,
                limits=OutputLimits(log_bytes=run.settings.log_max_bytes),
            )
        except (ShellFailedError, ShellTimeoutError) as error:
            _note_result(run, name=name, result=error.result)
            raise
        _note_result(run, name=name, result=result)
        return result

    return _recorded(
        run,
        index=index,
        name=name,
        command=command,
        timeout=timeout,
        work=execute,
        given=lambda result: {"stdout": result.stdout},
        must_run_again=must_run_again,
    )


def _note_result(run: ActiveRun, *, name: str, result: ShellResult) -> None:
    """Register the log of a step, and what an operator should know of its end."""
    path = result.log_path
    run.artifact(
        kind="file", name=path.name, storage_path=str(path), size_bytes=result.log_bytes, mime_type="text/plain"
    )
    if result.log_error:
        run.event(f"the log of step {name} is not complete: {result.log_error}", level="warning")
    if result.survivors:
        run.event(f"processes of step {name} could not be killed", level="error", pids=list(result.survivors))
    elif result.leftovers_killed:
        run.event(f"step {name} left processes behind: killed", level="warning", processes=result.leftovers_killed)


def action(
    name: str,
    work: Callable[[], T],
    *,
    about: str,
    preflight: bool = False,
    planned: Callable[[], T] | None = None,
    must_run_again: bool = False,
) -> T:
    """Run Python as a step of the current runbook, with `about` where the command would stand.

    It has no timeout: it is for work that takes moments and is safer in Python than in shell. A dry run takes
    what `planned` returns instead of the work's result, or None where nobody reads it. A `preflight` only looks: a dry
    run executes it, or the `planned` of one that changes something as well. What the system, a database or Prefect
    refuses it is a PreflightError.

    An attempt that keeps the steps of an earlier one does not do this one again, but for a preflight, and gets what it
    returned then. So what is no JSON must run again, as must what says `must_run_again`. No secret may be in a result.
    """
    run = current_run()
    index = next(run.step_numbers)
    if preflight:
        work, planned = looking(name)(work), planned and looking(name)(planned)
    if run.plan is not None:
        run.plan.append(PlannedStep(index, name, about, 0, {}, preflight=preflight))
        if planned is not None:
            return planned()
        return work() if preflight else cast("T", None)
    kept = run.take_kept(name, about) if preflight else run.skip(index, name=name, command=about)
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
        timeout=0,
        work=look_again if kept and kept.result else work,
        given=_value,
        must_run_again=must_run_again,
        preflight=preflight,
    )


def _value(result: object) -> dict[str, Any] | None:
    """How what an action returned is kept; None for what JSON cannot give back."""
    try:
        same = json.loads(json.dumps(result, allow_nan=False)) == result
    except (TypeError, ValueError):
        return None
    return {"value": result} if same else None


def _result_of(stdout: str) -> ShellResult:
    return ShellResult(
        exit_code=0,
        stdout=stdout,
        stderr="",
        log_path=Path("/dev/null"),
        log_bytes=0,
        log_truncated=False,
        log_error=None,
        duration_seconds=0.0,
        leftovers_killed=0,
        survivors=(),
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def _step_task(work: Callable[[], T]) -> T:
    return work()


def _recorded(
    run: ActiveRun,
    *,
    index: int,
    name: str,
    command: str,
    timeout: float,
    work: Callable[[], T],
    given: Callable[[T], dict[str, Any] | None],
    must_run_again: bool,
    preflight: bool = False,
) -> T:
    run.make_sure_of(name)
    key: dict[str, Any] = {"attempt": run.attempt, "index": index}
    about: dict[str, Any] = {"name": name, "command": command, "definition": run.definition}
    run.record(StepStarted(run.id, **key, **about, timeout_seconds=timeout))
    try:
        result = _step_task.with_options(name=name, task_run_name=name)(work)
    except BaseException as error:
        status = StepStatus.FAILED if isinstance(error, Exception) else StepStatus.CANCELLED
        exit_code = error.exit_code if isinstance(error, StepError) else None
        message = str(error) or type(error).__name__
        run.record(StepFinished(run.id, **key, status=status, exit_code=exit_code, error=message))
        raise
    exit_code = result.exit_code if isinstance(result, ShellResult) else None
    kept = given(result)
    again = not preflight and (must_run_again or kept is None)
    if again:
        run.bound.append(name)
    run.record(
        StepFinished(run.id, **key, status=StepStatus.SUCCEEDED, exit_code=exit_code, result=kept, must_run_again=again)
    )
    return result
