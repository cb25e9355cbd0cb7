"""Finds and kills what is left of runs on this host: of runs that were fenced, and of processes whose worker died."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Collection, Sequence
from uuid import UUID, uuid5

from sqlalchemy import Connection, Engine

from opsdb.alerts.episodes import open_fenced
from opsdb.processes.find import Process
from opsdb.processes.identity import identify
from opsdb.processes.kill import KillReport, kill_processes
from opsdb.processes.running import RunProcess, entered
from opsdb.record.entries import Event, apply_line
from opsdb.runs.sweeper import doomed, fence_run, judge_forced_end, note_reaped, unconfirmed
from opsdb.settings import Settings
from opsdb.states import FenceReason

log = logging.getLogger(__name__)


def reap(settings: Settings, engine: Engine, *, served: Callable[[], Collection[UUID]]) -> int:
    """Look once at all run processes that were entered on this host. Returns how many runs were cleaned up.

    `served` gives the runs whose end this worker waits for itself. A run process that lives and is not fenced
    continues, whoever started it: it can be cancelled through the database. Raises one of `database.GONE`.
    """
    found, timings = list(entered(settings)), settings.timings
    with engine.begin() as db:
        _confirm_unborn(db, {process.run_id for _, process in found} | {str(run_id) for run_id in served()})
        attempts = {UUID(process.run_id): process.attempt for _, process in found}
        must_go = doomed(db, attempts, exit_seconds=timings.exit)
    cleaned = 0
    for path, process in found:
        run_id = UUID(process.run_id)
        orphaned = not process.alive and run_id not in served()
        if run_id not in must_go and not orphaned:
            continue
        # the grace is for those that nobody took from their process
        report = end_processes(process, grace_seconds=0 if run_id in must_go else timings.grace)
        if report.survivors:
            _note_survivors(engine, process, report.survivors)
            continue
        with engine.begin() as db:
            if fence_run(db, run_id=run_id, attempt=process.attempt, reason=FenceReason.HEARTBEAT_TIMEOUT):
                open_fenced(db, [run_id])
            note_reaped(db, run_id=run_id, attempt=process.attempt)
            if process.alive:  # no worker heard from it why it did not come to its end
                judge_forced_end(db, run_id=run_id, attempt=process.attempt)
        path.unlink(missing_ok=True)
        log.warning("run %s: its processes are gone (%d killed)", run_id, report.found)
        cleaned += 1
    return cleaned


def _confirm_unborn(db: Connection, known: Collection[str]) -> None:
    """Say of fenced runs that no process of theirs ever entered itself here, when the worker that claimed them is gone.

    A process that is about to would find itself fenced before its first step.
    """
    host = socket.gethostname()
    for run in unconfirmed(db, host=host):
        pid = run.claimed_by.removeprefix(f"{host}-")
        gone = pid == str(os.getpid()) or (pid.isdecimal() and identify(int(pid)) is None)
        if gone and str(run.id) not in known:
            note_reaped(db, run_id=run.id, attempt=run.attempt)


def end_processes(process: RunProcess, *, grace_seconds: float) -> KillReport:
    """Kill a run process, if exactly that one still lives, and all that carries its run's id."""
    # it leads a session and adopts what its steps orphan, so that its descendants are all of the run
    alive = process.pid if process.alive else None
    return kill_processes(run_id=process.run_id, shell_pid=alive, grace_seconds=grace_seconds)


def _note_survivors(engine: Engine, process: RunProcess, survivors: Sequence[Process]) -> None:
    pids = [survivor.pid for survivor in survivors]
    log.error("run %s: processes survive: %s", process.run_id, pids)
    run_id = UUID(process.run_id)
    event = Event(
        run_id,
        message="processes of the run could not be killed",
        level="error",
        data={"pids": pids},
        id=uuid5(run_id, f"survivors of attempt {process.attempt}"),  # once, however often we look
    )
    with engine.begin() as db:
        apply_line(db, event.line())
