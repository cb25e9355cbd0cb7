"""The run that this process executes: what its steps know of it, and how they keep its record."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from flows.engine.page import Page
from flows.engine.progress import Meter
from flows.engine.story import Story
from opsdb.errors import PreflightError, StepError, UsageError
from opsdb.record.entries import ArtifactMade, Entry, Event, StepSkipped
from opsdb.runs.events import event_id_of
from opsdb.runs.kept_steps import KeptStep
from opsdb.runs.lookup import short_id
from opsdb.settings import Settings
from opsdb.shown import shown_lines
from opsdb.states import Life


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step as a dry run notes it. No secret stands in `environment`."""

    index: int
    name: str
    command: str
    timeout_seconds: float
    environment: Mapping[str, str]
    preflight: bool
    """Whether it was executed: it only looks."""


@dataclass
class ActiveRun:
    """The run that this process executes."""

    id: UUID
    attempt: int
    settings: Settings
    record: Callable[[Entry], None]
    in_lane: bool
    due_at: datetime | None = None
    """When its schedule wanted it to start; None when somebody asked for it."""
    make_sure: Callable[[], None] = lambda: None
    """Returns when the run is known not to have been taken from this process."""
    fenced: threading.Event = field(default_factory=threading.Event)
    acquire: Callable[[str], None] = lambda _resource: None
    """Returns when a resource, `odoo_host:shop` for instance, is this run's alone, until its attempt ends.

    For runbooks with `exclusive`, which have their parameter's resource by then: decision 9 says why in that order.
    A run in no lane is not recorded, so it can hold nothing.
    """
    release: Callable[[str], None] = lambda _resource: None
    """Let others have a resource that was acquired, before the attempt ends."""
    end_process: Callable[[], None] = lambda: None
    """Ends this process, and all that is left of the run, without another word: the run was taken from it."""
    step_numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    plan: list[PlannedStep] | None = None
    """In a dry run, what the steps would do: none but preflights are executed."""
    life: Life | None = None
    """What led to this attempt, in a lane."""
    kept: list[KeptStep] = field(default_factory=list)
    """The next steps that need not be done again, in order."""
    approved: tuple[str, str] | None = None
    """Name and command of the approval that was given for this attempt."""
    bound: list[str] = field(default_factory=list)
    """The steps so far whose work ends with this attempt."""
    version: str = ""
    """That of the runbook."""
    puts_back: bool = False
    """Whether it is in a block of steps that are put back when they do not end well."""
    left: dict[str, Any] | None = None
    """What it left and put back, for the result of a run that did not end well."""
    meter: Meter = field(default_factory=Meter)
    """How far the running step is."""
    page: Page = field(default_factory=Page)
    """What is shown of the run in Prefect's UI."""
    story: Story = field(default_factory=lambda: Story(Page(), run_id=UUID(int=0), kind="run"))
    """Writes that page."""
    wait_until_recorded: Callable[[], None] = lambda: None
    """Returns when all that was recorded is in the database."""
    clock: Callable[[], datetime] | None = None
    """The time by the clock of Prefect's server, in a lane."""

    @property
    def log_dir(self) -> Path:
        """The folder with the full output of each step of this attempt."""
        return self.settings.logs / str(self.id) / f"attempt-{self.attempt}"

    def event(self, message: str, *, level: str = "info", once: str = "", **data: Any) -> None:
        """Record something that an operator may want to know; under the same name `once`, it is recorded once."""
        event_id = event_id_of(self.id, once) if once else uuid4()
        self.record(Event(self.id, message=shown_lines(message), level=level, data=data, id=event_id))

    def artifact(self, *, kind: str, name: str, **columns: Any) -> None:
        """Record something that the run made: see `ops.artifacts`."""
        self.record(ArtifactMade(self.id, kind=kind, name=name, columns=columns))

    def make_sure_of(self, step: str) -> None:
        """Return when the run is known to be ours still, before a step. Raises StepError when it was taken from us."""
        self.make_sure()
        if self.fenced.is_set():
            raise StepError(f"step {step} was not started: the run was taken from this process")

    def next_kept(self, name: str, command: str) -> KeptStep | None:
        """What the next step gave in an earlier attempt, if that stands.

        Raises PreflightError where it was another step: from then on for each step, so that none is done.
        """
        if not self.kept:
            return None
        kept = self.kept[0]
        if (kept.name, kept.command) != (name, command):
            changed = (
                f"the command of step {name} has changed since an earlier attempt did it. It was: "
                if kept.name == name
                else f"step {name} stands where an earlier attempt did step {kept.name}: "
            )
            raise PreflightError(
                f"{changed}{' '.join(kept.command.split())[:200]}. Nothing was done in this attempt. Hint: "
                f"`ops retry {short_id(self.id)}` starts with the first step"
            )
        return self.kept.pop(0)

    def skip(self, index: int, *, name: str, command: str, shown: str) -> KeptStep | None:
        """The same, for a step that is not done then, which is recorded. Of `shown` no secret is part."""
        kept = self.next_kept(name, command)
        if kept is not None:
            self.record(StepSkipped(self.id, attempt=self.attempt, step=replace(kept, index=index)))
            self.story.step_kept(index, name, shown)
        return kept


_active: ContextVar[ActiveRun] = ContextVar("active_run")


def current_run() -> ActiveRun:
    """The run that the calling code is part of. Raises UsageError outside a runbook."""
    try:
        return _active.get()
    except LookupError:
        raise UsageError("steps run inside a @runbook only") from None


@contextmanager
def activated(run: ActiveRun) -> Iterator[None]:
    """Steps of the calling code are steps of this run."""
    token = _active.set(run)
    try:
        yield
    finally:
        _active.reset(token)
