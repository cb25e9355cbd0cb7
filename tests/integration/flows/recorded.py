"""Runs in no lane whose steps and events are recorded all the same, and that can be killed after any of their steps.

    python -m tests.integration.flows.recorded KIND PARAMETERS [STEP]

executes a runbook in a process that kills itself as soon as the step of that name has succeeded.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.context import FlowRunContext
from prefect.logging import disable_run_logger

from flows.engine import runbook as recording
from flows.engine.active_run import ActiveRun, activated
from opsdb.database import connect
from opsdb.errors import StepFailedError
from opsdb.record.entries import Entry, StepFinished, StepStarted
from opsdb.runs.lookup import list_runs, reading
from opsdb.runs.runs import apply_states
from opsdb.settings import load_settings
from opsdb.states import RunStatus, fold
from opsdb.tables import StepStatus
from tests.support.recorded_runs import START, make_facts, make_states

ROOT = Path(__file__).parents[3]


@contextmanager
def recorded(*, heard: Callable[[str, StepStatus], None] = lambda _name, _status: None) -> Iterator[list[ActiveRun]]:
    """All runs of the block record into the ops database; yields them. `heard` gets the end of each step."""
    engine = connect(load_settings(), application="test")
    runs: list[ActiveRun] = []

    def record(entry: Entry, names: dict[int, str]) -> None:
        with engine.begin() as db:
            entry.apply(db)
        if isinstance(entry, StepStarted):
            names[entry.index] = entry.name
        if isinstance(entry, StepFinished):
            heard(names[entry.index], entry.status)

    def make(**facts: Any) -> ActiveRun:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        assert context.flow is not None
        names: dict[int, str] = {}
        run = ActiveRun(**{**facts, "record": lambda entry: record(entry, names)})
        params = context.flow_run.parameters
        about = make_facts(id=run.id, kind=context.flow.name, params=params, created_at=datetime.now(UTC))
        with engine.begin() as db:
            apply_states(db, facts=about, states=make_states("SCHEDULED", "PENDING", "RUNNING"))
        runs.append(run)
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "ActiveRun", make)
        try:
            yield runs
        finally:
            engine.dispose()


def run_killed_after(step: str, kind: str, parameters: dict[str, Any], *, env: dict[str, str]) -> bool:
    """Execute a runbook in a process that is killed after a step; whether that step came."""
    words = [sys.executable, "-m", "tests.integration.flows.recorded", kind, json.dumps(parameters), step]
    with psutil.Popen(words, env={**env, **os.environ}, cwd=ROOT) as process:
        code = process.wait(120)
    assert code in (-signal.SIGKILL, 0), code
    return code == -signal.SIGKILL


def told_by_next_attempt(kind: str, parameters: dict[str, Any]) -> str:
    """Execute the attempt that the room begins after a kill, of the newest run of that kind; the reason of its end."""
    with reading(load_settings()) as db:
        [view] = list_runs(db, kind=kind, status=RunStatus.RUNNING, limit=1)
    again = replace(fold(make_states("RUNNING")), attempt=2, begun_at=START - timedelta(minutes=5))
    run = ActiveRun(view.run.id, 2, load_settings(), lambda _entry: None, in_lane=True, life=again)
    flow = getattr(import_module(f"flows.{kind}"), kind)
    with disable_run_logger(), activated(run), pytest.raises(StepFailedError) as said:
        flow.fn.__wrapped__(**parameters)
    return str(said.value)


def _main(kind: str, parameters: str, step: str) -> None:
    def heard(name: str, status: StepStatus) -> None:
        if (name, status) == (step, StepStatus.SUCCEEDED):
            os.kill(os.getpid(), signal.SIGKILL)

    with recorded(heard=heard):
        getattr(import_module(f"flows.{kind}"), kind)(**json.loads(parameters))


if __name__ == "__main__":
    _main(*sys.argv[1:])
