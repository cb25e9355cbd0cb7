"""Runs and a Prefect server that exist in memory only."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from rich.console import Console, RenderableType

from deployments.server.runs import Cancelled, Started
from deployments.server.startable import Startable
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import RunDetails, RunView
from opsdb.states import RunStatus, State
from opsdb.tables import Artifact, Lane, Run, RunEvent, RunState, RunStep, StepStatus

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOSTILE = "[bold red]x[/] \x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eback\x00"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "dry": {"type": "boolean", "default": False, "position": 2},
        "database": {"type": "string", "pattern": "^[a-z]+$", "position": 0},
        "keep_days": {"type": "integer", "minimum": 1, "default": 7, "position": 1},
    },
    "required": ["database"],
}


def at(seconds: float) -> datetime:
    """A time so many seconds after the run was made."""
    return NOW + timedelta(seconds=seconds)


def state(kind: str, *, seconds: float = 0, message: str | None = None) -> State:
    """A state of Prefect's."""
    return State(id=uuid4(), at=at(seconds), type=kind, name=kind.title(), message=message)


def details(*, status: RunStatus = RunStatus.FAILED, text: str = "plain", attempt: int = 1) -> RunDetails:
    """A run of two steps, with `text` wherever text from outside can stand."""
    run_id = uuid4()
    over = status.terminal
    run = Run(
        id=run_id,
        session_id=uuid4(),
        kind=text,
        lane=Lane.B,
        priority=5,
        status=status,
        attempt=attempt,
        params={text: text},
        result={"text": text} if status is RunStatus.SUCCEEDED else None,
        error={"type": text, "message": f"{text}\nsecond\nthird"} if status is RunStatus.FAILED else None,
        claimed_by=text,
        started_at=at(10),
        heartbeat_at=at(70),
        finished_at=at(75) if over else None,
        created_at=NOW,
        state_id=uuid4(),
        state_at=NOW,
    )
    steps = [
        RunStep(
            run_id=run_id,
            attempt=attempt,
            index=index,
            name=name,
            status=StepStatus.SUCCEEDED if index == 1 else StepStatus.FAILED,
            command="true",
            timeout_seconds=60,
            started_at=at(10 * index),
            finished_at=at(10 * index + 4),
            exit_code=index - 1,
            error=text,
        )
        for index, name in enumerate(("preflight", text), start=1)
    ]
    return RunDetails(
        view=RunView(run=run, session=text, now=at(80), waits_for_approval=False),
        steps=steps,
        events=[RunEvent(run_id=run_id, created_at=at(20), level="warning", message=text, data={"text": text})],
        artifacts=[Artifact(run_id=run_id, created_at=at(20), kind="text", name=text, content_text=text, details={})],
        states=[RunState(id=uuid4(), run_id=run_id, at=at(1), type="RUNNING", name=text, message=text)],
    )


@dataclass
class FakePrefect:
    """A server with one deployment, which plays the given states one after the other."""

    states: list[State] = field(default_factory=lambda: [state("SCHEDULED")])
    schema: dict[str, Any] = field(default_factory=lambda: SCHEMA)
    started: list[dict[str, Any]] = field(default_factory=list)
    outages: int = 0
    run_id: UUID = field(default_factory=uuid4)

    def startable(self, *, kind: str, lane: Lane) -> Startable:
        if kind != "odoo_db_backup":
            raise UsageError(f"KIND: no runbook {kind!r}. There are: odoo_db_backup")
        return Startable(
            id=uuid4(), flow_id=uuid4(), kind=kind, lane=lane, description="", schema=self.schema, defaults={}
        )

    def start(self, startable: Startable, *, params: Mapping[str, Any], **how: Any) -> Started:
        self.started.append({"params": dict(params), "lane": startable.lane, **how})
        return Started(id=self.run_id, name="brave-fox", new=True, state=self.states[0])

    def knows_key(self, startable: Startable, key: str) -> bool:
        return False

    def state(self, run_id: UUID) -> State:
        if self.outages:
            self.outages -= 1
            raise RoomUnreachableError("Prefect does not answer")
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def cancel(self, run_id: UUID, *, message: str) -> Cancelled:
        now = self.state(run_id)
        if now.status.terminal:
            raise UsageError(f"run {run_id} {now.status.told} already: there is nothing to cancel")
        return Cancelled(state=state("CANCELLED", message=message), asked=True)


def drawn(renderable: RenderableType) -> str:
    """What stands on a wide page."""
    console = Console(file=io.StringIO(), width=400, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
