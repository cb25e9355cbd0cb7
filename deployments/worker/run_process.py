"""What happens in the process that is forked for a run."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType

from prefect.client.schemas.objects import FlowRun

from deployments.worker.prefect_inner import Related, execute_flow, mark_cancelled
from opsdb.processes.running import enter
from opsdb.settings import load_settings


@dataclass(frozen=True)
class RunTask:
    """What a run process is told: picklable, and without secrets of other runs."""

    flow_run: FlowRun
    attempt: int
    entrypoint: str
    env: dict[str, str]
    known: tuple[Related, ...]


FENCED_EXIT_CODE = 75
"""The run was taken from its process (`flows.engine.lane_orders`): whoever took it says how it ended."""
CUT_OFF_EXIT_CODE = 76
"""The process of a run that may be repeated stopped by itself (`flows.engine.lane_orders`)."""
CANCEL_SIGNAL = signal.SIGUSR1
"""Ends the run as cancelled. SIGTERM ends it as crashed."""


def execute(task: RunTask, beginning: Connection) -> None:
    """Run one flow run to its end. The exit code is 0 when its outcome stands in Prefect, or will be written there
    by the worker because it was cancelled. `beginning` is closed when the runbook begins."""
    os.setsid()
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(task.env)
    random.seed()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(CANCEL_SIGNAL, _cancel)
    enter(load_settings(), run_id=task.flow_run.id, attempt=task.attempt)
    execute_flow(task.entrypoint, task.flow_run, task.known, begins=beginning.close)


def _cancel(_number: int, _frame: FrameType | None) -> None:
    mark_cancelled()
    os.kill(os.getpid(), signal.SIGTERM)


def exit_words(code: int) -> str:
    """An exit code in words."""
    if code == CUT_OFF_EXIT_CODE:
        return "it stopped by itself, since the ops database was silent and its run may be given to another"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
