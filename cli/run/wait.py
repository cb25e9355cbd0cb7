"""Following a run until it is over. Prefect's own state decides; the ops database has the steps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cli.run.deaths import Deaths, recorded_state
from cli.run.progress import ProgressLine, progress_lines
from cli.run.reasons import QueueHint
from cli.run.step_logs import log_path
from cli.run.view import live_steps_table, status_text, step_seconds
from cli.text import safe_line, safe_output, say
from deployments.server.runs import UnknownRunError
from opsdb.amounts import seconds, size
from opsdb.errors import RoomUnreachableError
from opsdb.runs.lookup import RunDetails, read_run, reading, short_id
from opsdb.settings import Settings
from opsdb.states import State
from opsdb.tables import RunStep, StepStatus

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
RECORD_SECONDS = 3.0
_BYTES = re.compile(r"bytes: ([0-9]{1,18})")


class States(Protocol):
    """The source of a run's state: Prefect's server."""

    def state(self, run_id: UUID) -> State:
        """The state now. Raises RoomUnreachableError."""


class View(Protocol):
    """Who shows a run as it goes."""

    def show(self, now: Moment) -> None:
        """Take in what is known now."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known of a run at one time. `details` is None while nothing is recorded."""

    run_id: UUID
    state: State
    details: RunDetails | None
    waited_seconds: float
    last_line: str = ""
    note: str = ""
    since_attempt: int = 1
    """The attempt that is followed: what those before it did is not shown."""
    spared: bool = False
    """Whether its process died and the room may try it again."""
    overdue: bool = False
    """Whether it was to be tried again, and was not in time."""

    @property
    def over(self) -> bool:
        """Whether this is how the run ended."""
        return self.state.status.terminal and not self.spared

    @property
    def steps(self) -> list[RunStep]:
        """The steps of the attempts that are followed."""
        return [step for step in self.details.steps if step.attempt >= self.since_attempt] if self.details else []

    @property
    def progress(self) -> list[str]:
        """How far the running steps are, a line each."""
        return [] if self.state.status.terminal else progress_lines(self.steps)

    @property
    def status(self) -> str:
        """Its status, or `cancelling` while its end is only asked for, or `died` while it may be tried again."""
        if self.state.type == "CANCELLING":
            return "cancelling"
        return "died" if self.spared else self.state.status.value


def follow(
    settings: Settings,
    server: States,
    *,
    run_id: UUID,
    view: View,
    why_queued: Callable[[], str] = lambda: "",
    limit_seconds: float | None = None,
    since_attempt: int = 1,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Moment:
    """Show a run until it is over, or until the limit. Returns what was known last.

    A run whose process died is over only when the room does not try it again.

    `why_queued` is asked now and then for the reasons of a run that stays queued.
    Steps of attempts before `since_attempt` are not shown. An outage is waited out for a minute, then
    RoomUnreachableError is raised. The database may be away all the time.
    """
    started = answered = clock()
    hint = QueueHint(run_id, why_queued)
    deaths = Deaths(settings=settings, run_id=run_id, clock=clock)
    details: RunDetails | None = None
    while True:
        try:
            state = server.state(run_id)
            answered = clock()
        except UnknownRunError:
            state = recorded_state(settings, run_id)
        except RoomUnreachableError:
            if clock() - answered > PATIENCE_SECONDS:
                raise
            pause(POLL_SECONDS)
            continue
        details, trouble = _recorded(settings, run_id, known=details)
        spared = deaths.spare(state)
        if state.status.terminal and not spared:
            details = _settled(
                settings, run_id, state, known=details, since_attempt=since_attempt, pause=pause, clock=clock
            )
        waited = clock() - started
        now = Moment(
            run_id=run_id,
            state=state,
            details=details,
            waited_seconds=waited,
            last_line=_last_line(settings, details),
            note=_note(run_id, state, spared=spared) or hint.text(state, waited) or trouble,
            since_attempt=since_attempt,
            spared=spared,
            overdue=deaths.overdue,
        )
        view.show(now)
        if now.over or (limit_seconds is not None and waited >= limit_seconds):
            return now
        pause(POLL_SECONDS)


def _settled(
    settings: Settings,
    run_id: UUID,
    state: State,
    *,
    known: RunDetails | None,
    since_attempt: int,
    pause: Callable[[float], None],
    clock: Callable[[], float],
) -> RunDetails | None:
    """What is recorded of a run that is over. The run process and the sync write its end in their own time."""
    deadline = clock() + RECORD_SECONDS
    while clock() < deadline:
        run = known.view.run if known is not None else None
        # the attempt before may have ended the same way
        if run is not None and run.status is state.status and run.attempt >= since_attempt:
            break
        pause(0.2)
        known, _ = _recorded(settings, run_id, known=known)
    return known


def view_for(console: Console, *, quiet: bool) -> AbstractContextManager[View]:
    """A live table on a terminal, a line per change elsewhere, nothing when quiet."""
    if quiet:
        return nullcontext(Silent())
    return LiveTable(console) if console.is_terminal else nullcontext(Lines(console))


class Silent:
    """Shows nothing."""

    def show(self, now: Moment) -> None:
        """Nothing."""


@dataclass
class Lines:
    """One plain line per change, and now and then one of how far a step is: for logs and pipes."""

    console: Console
    _said: dict[str, str] = field(default_factory=dict)
    _progress: ProgressLine = field(init=False)

    def __post_init__(self) -> None:
        self._progress = ProgressLine(self.console)

    def show(self, now: Moment) -> None:
        """Print what is new, the end of the run last."""
        over = now.over
        if not over:
            self._say_status(now)
        if now.note:
            self._say("note", now.note, now.note)
        if now.details is not None:
            self._say_steps(now.steps, now.details.view.now)
            self._progress.show(now.progress, at=now.waited_seconds)
        if over:
            self._say_status(now)

    def _say_status(self, now: Moment) -> None:
        self._say("run", f"run {short_id(now.run_id)}: {now.status}", now.status)

    def _say_steps(self, steps: list[RunStep], now: datetime) -> None:
        for step in steps:
            line = f"step {step.index} {safe_line(step.name)}: {step.status}"
            if step.finished_at:
                line += f" after {seconds(step_seconds(step, now))}"
            if step.exit_code is not None:
                line += f", exit code {step.exit_code}"
            self._say(f"{step.attempt}.{step.index}", line, step.status)

    def _say(self, what: str, line: str, value: str) -> None:
        if self._said.get(what) != value:
            self._said[what] = value
            say(line, to=self.console)


class LiveTable:
    """The steps in a table that is redrawn each second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def show(self, now: Moment) -> None:
        """Draw the table."""
        head = Text.assemble(f"run {short_id(now.run_id)}  ", status_text(now.status), f"  {now.waited_seconds:.0f} s")
        parts: list[Text | object] = [head]
        if now.details is not None and now.steps:
            steps = now.details.steps_of(now.details.view.run.attempt)
            parts.append(live_steps_table(steps, now.details.view.now))
        parts += [Text(line, no_wrap=True, overflow="ellipsis") for line in now.progress]
        if now.last_line:
            parts.append(Text(now.last_line, style="dim", no_wrap=True, overflow="ellipsis"))
        if now.note:
            parts.append(Text(now.note, style="yellow"))
        self._live.update(Group(*parts), refresh=True)  # type: ignore[arg-type]  # Text and Table are both renderable


def _recorded(settings: Settings, run_id: UUID, *, known: RunDetails | None) -> tuple[RunDetails | None, str]:
    """What is recorded now, or what was known before and why there is nothing newer."""
    try:
        with reading(settings) as db:
            return read_run(db, run_id) or known, ""
    except RoomUnreachableError as error:
        return known, safe_line(f"the steps can not be followed: {error}", width=300)


def _note(run_id: UUID, state: State, *, spared: bool) -> str:
    if spared:
        return safe_line(f"the room may try it again: {state.message or state.name}", width=500)
    if state.waits_for_approval:
        return f"{safe_line(state.message or '', width=500)} (ops approve {short_id(run_id)})"
    if state.postponed_until:
        return safe_line(state.message or "", width=500)
    return ""


def _last_line(settings: Settings, details: RunDetails | None) -> str:
    running = [step for step in details.steps if step.status == StepStatus.RUNNING] if details else []
    if not details or not running:
        return ""
    step = running[-1]
    path = log_path(settings, details.view.run.id, attempt=step.attempt, index=step.index, name=step.name)
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = safe_output(file.read().decode(errors="replace")).split("\n")
    except OSError:
        return ""
    return next((_readable(safe_line(line)) for line in reversed(lines) if line.strip()), "")


def _readable(line: str) -> str:
    """The size that a step printed for its runbook, as people read it; any other line as it is."""
    found = _BYTES.fullmatch(line)
    return f"{size(int(found[1]))} written" if found else line
