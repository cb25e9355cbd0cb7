"""Fixtures for the tests of runbooks, as a plugin of pytest: a runbook is run without a room and without a server.

`run_runbook` calls it as a lane would: its parameters are checked, its commands are executed, with their time limits,
in an OPS_HOME of the test's own. `stand_in` puts a program of the test's own in the place of one that a command calls.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest

if TYPE_CHECKING:  # Prefect takes 1.5 s to import, and this is loaded by each pytest here
    from prefect import Flow

    from opsdb.record.entries import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenStep:
    """A step as it is recorded. `stdout` is what a command printed, as a later step gets it."""

    name: str
    command: str
    timeout_seconds: float
    status: str
    exit_code: int | None
    stdout: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun:
    """The outcome of a run. A run that asks for an approval ends there: `error` is its question."""

    status: Literal["succeeded", "failed", "asks"]
    result: Any
    error: str | None
    steps: list[SeenStep]
    events: list[str]


class RunRunbook(Protocol):
    """The fixture `run_runbook`."""

    def __call__(self, runbook: Flow[..., Any] | str, /, **parameters: Any) -> SeenRun:
        """Run a runbook, or the one of that name in the folder of the test.

        Raises UsageError for parameters that it does not take, and whatever is a bug in it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the test's own."""

    path: Path
    record: Path

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call, in order."""
        words = iter(self.record.read_text().split("\0") if self.record.exists() else [])
        return [[next(words) for _ in range(int(count))] for count in words if count]


@pytest.fixture
def run_runbook(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> RunRunbook:
    """Runs a runbook without a room: `run_runbook("restart_service", service="odoo")`."""
    for name in [name for name in os.environ if name.startswith("OPS_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("room")
    home.chmod(0o700)
    monkeypatch.setenv("OPS_HOME", str(home))
    monkeypatch.setenv("OPS_SETTLED", "1")  # no settings file of this host counts

    def run(runbook: Flow[..., Any] | str, /, **parameters: Any) -> SeenRun:
        from flows.engine import step as steps
        from flows.engine.dry_run import checked_parameters

        if isinstance(runbook, str):
            runbook = _in_folder(request.path.parent, runbook)
        values = checked_parameters(runbook, parameters)
        with monkeypatch.context() as patch:
            patch.setattr(steps, "_step_task", _Directly)
            patch.setattr(steps, "get_run_logger", lambda: logging.getLogger(runbook.name))
            return _seen(runbook, values)

    return run


@pytest.fixture
def stand_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Program]:
    """Puts a program first on the PATH: `docker = stand_in("docker", "echo restarted")`, its body in bash."""
    folder = tmp_path_factory.mktemp("programs")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, body: str = "") -> Program:
        made = Program(folder / name, folder / f".{name}.calls")
        record = f"printf '%s\\0' $# \"$@\" >> {shlex.quote(str(made.record))}"
        made.path.write_text(f"#!/bin/bash\n{record}\n{body}\n")
        made.path.chmod(0o755)
        return made

    return put


def _in_folder(folder: Path, name: str) -> Flow[..., Any]:
    """A runbook as lanes import it, whose relative imports work."""
    from flows.own.catalogue import find
    from opsdb.errors import UsageError
    from opsdb.settings import load_settings

    found = find(name, load_settings().model_copy(update={"runbooks": folder}))
    if found is None:
        raise UsageError(f"no file in {folder} has the runbook {name}")
    return found


class _Directly:
    """In the place of Prefect's task."""

    @staticmethod
    def with_options(**_options: Any) -> Callable[[Callable[[], Any]], Any]:
        return lambda work: work()


def _seen(runbook: Flow[..., Any], values: dict[str, Any]) -> SeenRun:
    from datetime import UTC, datetime
    from uuid import uuid4

    from flows.engine.active_run import ActiveRun, activated
    from flows.engine.suspension import Suspension
    from opsdb.errors import OpsError
    from opsdb.record.entries import Event
    from opsdb.settings import load_settings

    entries: list[Entry] = []
    run = ActiveRun(uuid4(), 1, load_settings(), entries.append, in_lane=False, clock=lambda: datetime.now(UTC))
    outcome: dict[str, Any] = {"status": "succeeded", "result": None, "error": None}
    with activated(run):
        try:
            # within the flow is what records a run, and within that the function as it was written
            outcome["result"] = runbook.fn.__wrapped__(**values)  # type: ignore[attr-defined]
            json.dumps(outcome["result"])
        except Suspension as asked:
            outcome |= {"status": "asks", "error": asked.waits.message}
        except OpsError as error:
            outcome |= {"status": "failed", "error": str(error)}
    events = [entry.message for entry in entries if isinstance(entry, Event)]
    return SeenRun(**outcome, steps=[*_steps(entries)], events=events)


def _steps(entries: list[Entry]) -> Iterator[SeenStep]:
    from opsdb.record.entries import StepFinished, StepStarted

    ends = {entry.index: entry for entry in entries if isinstance(entry, StepFinished)}
    for one in (entry for entry in entries if isinstance(entry, StepStarted)):
        end = ends[one.index]
        yield SeenStep(
            name=one.name,
            command=one.command,
            timeout_seconds=one.timeout_seconds,
            status=str(end.status),
            exit_code=end.exit_code,
            stdout=(end.result or {}).get("stdout"),
            error=end.error,
        )
