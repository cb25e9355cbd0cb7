"""@runbook: a Prefect flow that keeps the record of its run, and leaves nothing behind."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import Pause, TerminationSignal
from sqlalchemy import Connection

from flows.engine.active_run import ActiveRun, activated
from flows.engine.exclusion import WAIT_SECONDS, exclude_others
from flows.engine.facts import Explain, result_facts
from flows.engine.lane_orders import LaneOrders
from flows.engine.ops_database import in_ops
from flows.engine.run_page import Told, page_of
from flows.engine.suspension import Suspension, TakenError, suspend
from opsdb.database import connect
from opsdb.errors import OpsError, PreflightError, UsageError
from opsdb.processes.kill import become_subreaper, kill_processes
from opsdb.record.entries import RunClosed, RunOpened, RunSuspended
from opsdb.record.journal import Journal, journal_dir
from opsdb.record.recorder import Recorder, deliver_abandoned
from opsdb.runs.kept_steps import Kept, read_kept
from opsdb.runs.locks import release_resource
from opsdb.runs.prefect_runs import facts_of, state_of
from opsdb.settings import load_settings
from opsdb.shown import shown_lines
from opsdb.states import Life, State, fold

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


def runbook(
    *,
    deadline_seconds: float,
    max_attempts: int = 1,
    exclusive: str | None = None,
    version: str = "1",
    explain: Explain = result_facts,
    subject: str | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a runbook: a flow of the function's name whose run is recorded in `ops`.

    The run gets a heartbeat while it lives, its result or error when it ends, and when it ends, in whatever way Python
    lets us see, no process of it is left. `deadline_seconds` is what all steps may take together.
    `max_attempts` above 1 says that a run whose process died may be executed again from the start.
    `exclusive` names a parameter: runs, of whatever runbook, with the same value of it exclude each other. What else
    such a run needs for itself it asks for with `current_run().acquire`, before its first step. A run that waits for
    another one has not begun: its deadline counts from when it has all.
    `version` changes when steps that succeeded with the code before must not stand, though their names and commands are
    the same: CONTRIBUTING.md says when that is.
    `explain` says on the run's page what came of it.
    `subject` is what a run is called, with `${params.x}` for a parameter; by default its main parameters, and the kind.
    A run that is in no lane (called in a test, or by hand) runs the same way and is not recorded.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        signature = inspect.signature(function, eval_str=True)

        @functools.wraps(function)
        def run_recorded(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            resource = f"{exclusive}:{given.arguments[exclusive]}" if exclusive else None
            told = Told(given.arguments, exclusive, explain)
            with _open_run(deadline_seconds, max_attempts, resource, version, told) as run:
                try:
                    run.story.begins()
                    result = _executed(run, lambda: function(*args, **kwargs), resource)
                except Pause:
                    raise  # another attempt records how it ended
                except BaseException as error:
                    _kill_leftovers(run)
                    interrupted = not isinstance(error, Exception)
                    described = _describe(error)
                    run.record(
                        RunClosed.of(
                            run.id, attempt=run.attempt, result=run.left, error=described, interrupted=interrupted
                        )
                    )
                    run.story.failed(described, interrupted=interrupted)
                    raise
                _kill_leftovers(run)
                run.record(RunClosed.of(run.id, attempt=run.attempt, result=result))
                run.story.succeeded(result)
                return result

        # Prefect reads annotations where the wrapper stands; here they are read where the runbook stands
        run_recorded.__signature__ = signature  # type: ignore[attr-defined]
        run_recorded.version = version  # type: ignore[attr-defined]
        run_recorded.subject = subject  # type: ignore[attr-defined]
        # what stands of the parameters is shown beside their fields
        about = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
        return flow(name=function.__name__, description=about)(run_recorded)

    return decorate


def version_of(runbook: Flow[..., Any]) -> str:
    """The version of a runbook, as it is recorded with its steps."""
    return str(runbook.fn.version)  # type: ignore[attr-defined]


def _executed(run: ActiveRun, work: Callable[[], R], resource: str | None) -> R:
    """What the runbook returns. Raises Pause when it was suspended."""
    try:
        _begin(run, resource)
        return work()
    except Suspension as asked:
        _kill_leftovers(run)
        run.wait_until_recorded()  # another attempt elsewhere must find all that was done
        run.page.settle()
        try:
            pause = suspend(
                asked,
                on_suspended=lambda state: run.record(RunSuspended(run.id, state=state)),
                again_seconds=run.settings.timings.retry,
            )
        except TakenError:
            run.end_process()
            raise
        raise pause from None


def _begin(run: ActiveRun, resource: str | None) -> None:
    """Return when no other run stands in the way, and it is known what stands of the attempts before."""
    if resource is not None:
        run.acquire(resource)
    if run.life is not None and run.life.continues:
        standing = _standing(run, run.life, resource)
        run.kept = standing.steps
        run.approved = standing.asked if run.life.approval else None


def _standing(run: ActiveRun, life: Life, resource: str | None) -> Kept:
    def read_standing(db: Connection) -> Kept:
        # what an attempt that died here could not deliver is part of what it did
        deliver_abandoned(db.engine, journal_dir(run.settings))
        attempts = range(life.base, run.attempt)
        return read_kept(db, run_id=run.id, attempts=attempts, version=run.version, resource=resource)

    try:
        return in_ops(run.settings, read_standing)
    except UsageError as error:
        raise PreflightError(f"{error}. Nothing was done in this attempt") from error


def _acquire(run: ActiveRun, resource: str, deadline_seconds: float) -> None:
    timings = run.settings.timings
    engine = connect(run.settings, application="run lock", statement_seconds=timings.statement)
    try:
        exclude_others(
            engine,
            resource=resource,
            run_id=run.id,
            attempt=run.attempt,
            deadline_seconds=deadline_seconds,
            note=run.event,
            poll_seconds=timings.look,
        )
    finally:
        engine.dispose()


def _release(run: ActiveRun, resource: str) -> None:
    try:
        in_ops(run.settings, lambda db: release_resource(db, resource=resource, run_id=run.id, attempt=run.attempt))
    except OpsError as error:
        run.event(f"others wait for {resource.replace(':', ' ', 1)} until this run ends: {error}", level="warning")


@contextmanager
def _open_run(
    deadline_seconds: float, max_attempts: int, resource: str | None, version: str, told: Told
) -> Iterator[ActiveRun]:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise UsageError("a runbook runs as a Prefect flow")
    flow_run, settings = context.flow_run, load_settings()
    timings = settings.timings
    os.environ["OPS_RUN_ID"] = str(flow_run.id)
    become_subreaper()
    facts = facts_of(flow_run, kind=context.flow.name if context.flow else "")
    run = ActiveRun(
        id=flow_run.id,
        attempt=1,
        settings=settings,
        record=lambda _entry: None,
        in_lane=facts is not None,
        due_at=flow_run.expected_start_time if flow_run.auto_scheduled else None,
    )
    if facts is None:
        log.info("run %s is in no lane: it is not recorded", flow_run.id)
        with page_of(run, context, told), activated(run):
            yield run
        return
    states = _states(flow_run)
    life = fold(states)
    run.attempt, run.life, run.version = life.attempt, life, version
    began = time.monotonic()
    run.clock = lambda: life.latest.at + timedelta(seconds=time.monotonic() - began)
    run.acquire = lambda resource: _acquire(run, resource, deadline_seconds)
    run.release = lambda resource: _release(run, resource)
    orders = LaneOrders(run_id=run.id, fenced=run.fenced)
    run.end_process = orders.fenced
    recorder = Recorder(
        engine=connect(settings, application="run", statement_seconds=timings.statement),
        journal=Journal(journal_dir(settings), run.id),
        run_id=run.id,
        attempt=run.attempt,
        opening=RunOpened(
            facts.id,
            facts=facts,
            attempt=run.attempt,
            states=states,
            claimed_by=os.environ.get("OPS_WORKER"),
            deadline_seconds=deadline_seconds + WAIT_SECONDS if resource else deadline_seconds,
            max_attempts=max_attempts,
            resource=resource,
        ),
        timings=timings,
        # who must not overlap with another run ends before that one may begin
        leased=max_attempts > 1 or resource is not None,
        orders=orders,
        progress=run.meter.latest,
    )
    with recorder:
        run.record, run.make_sure, run.wait_until_recorded = recorder.record, recorder.make_sure, recorder.settle
        with page_of(run, context, told), activated(run):
            yield run


def _states(flow_run: FlowRun) -> list[State]:
    """What led to this attempt: the whole history, unless the lane worker says that this is the first one."""
    if os.environ.get("OPS_ATTEMPT") == "1" and flow_run.state is not None:
        return [state_of(flow_run.state)]
    with get_client(sync_client=True) as client:
        states = [state_of(state) for state in client.read_flow_run_states(flow_run.id)]
    if not states:
        raise PreflightError("the run was deleted in Prefect before its first step. Nothing was done")
    return states


def _kill_leftovers(run: ActiveRun) -> None:
    """No process of the run outlives it."""
    # in a lane this process serves one run only, so whatever it adopted is that run's
    report = kill_processes(run_id=str(run.id), orphans=run.in_lane, grace_seconds=run.settings.timings.grace)
    if report.survivors:
        run.event("processes of the run could not be killed", level="error", pids=[p.pid for p in report.survivors])
    elif report.found:
        run.event("killed what the run left behind", level="warning", processes=report.found)


def _describe(error: BaseException) -> dict[str, Any]:
    """The error as `ops.runs.error` holds it. One raised on purpose needs no stack; any other names its place."""
    if isinstance(error, TerminationSignal):
        message = "stopped from outside: cancelled, or its worker ended"
        return {"type": "Terminated", "message": message, "stack": None}
    name, message = type(error).__name__, shown_lines(str(error))
    if isinstance(error, OpsError):
        return {"type": name.removesuffix("Error"), "message": message, "stack": None}
    stack = "".join(traceback.format_exception(error))[-20_000:]
    return {"type": name, "message": f"{message}{_place(error)}", "stack": stack}


def _place(error: BaseException) -> str:
    """The innermost line of a runbook or of the room at which it was raised, as ` (disk_report.py:12)`."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not one.filename.startswith((sys.prefix, sys.base_prefix, "<"))]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
