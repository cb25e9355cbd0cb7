"""`ops logs --lane`: what all runs of a lane write, line by line, each line with the run that wrote it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from cli.run.step_logs import StepLog, Tail, step_logs
from cli.run.view import called
from cli.text import errors, safe_line, safe_output, say
from opsdb.errors import RoomUnreachableError
from opsdb.runs.lookup import RunDetails, list_runs, read_run, reading, short_id
from opsdb.settings import Settings
from opsdb.standard_streams import reader_left
from opsdb.states import RunStatus
from opsdb.tables import Lane

POLL_SECONDS = 0.5
EARLIER_BYTES = 4096
"""How much is shown of what a step wrote before."""
LONGEST_LINE = 100_000
STYLES = ("cyan", "green", "magenta", "yellow", "blue")


def follow_lane(settings: Settings, lane: Lane, *, follow: bool, pause: Callable[[float], None] = time.sleep) -> None:
    """Print the end of what the runs of a lane that execute now wrote.

    With `follow`, continue until Ctrl-C, also with runs that start later; an outage of the database is waited out.
    Raises RoomUnreachableError when it does not answer at first.
    """
    shown: dict[UUID, _RunLog] = {}
    began, away = False, False
    while not reader_left():
        try:
            for details in _executing(settings, lane, shown):
                run = details.view.run
                if run.id not in shown:
                    shown[run.id] = _RunLog(details, style=STYLES[len(shown) % len(STYLES)], earlier=not began)
                shown[run.id].print_news(settings, details)
            if away:
                say(f"The database answers again; following lane {lane}.", to=errors, style="yellow")
            away = False
        except RoomUnreachableError as error:
            if not began:
                raise
            if not away:
                say(f"{error} Waiting for it.", to=errors, style="yellow")
            away = True
        if not began and not shown:
            say(f"No run is running in lane {lane}{': waiting for one' if follow else ''}.", to=errors, style="dim")
        began = True
        if not follow:
            return
        pause(POLL_SECONDS)


def _executing(settings: Settings, lane: Lane, shown: dict[UUID, _RunLog]) -> Iterator[RunDetails]:
    """The runs that execute, the oldest first, and those that were followed until now, once more at their end."""
    with reading(settings) as db:
        found = [view.run.id for view in list_runs(db, lane=lane, status=RunStatus.RUNNING, limit=100)]
        ended = [run_id for run_id, log in shown.items() if run_id not in found and not log.over]
        for run_id in [*ended, *reversed(found)]:
            details = read_run(db, run_id)
            if details is not None:
                yield details


@dataclass
class _RunLog:
    """What was printed of one run."""

    details: RunDetails
    style: str
    earlier: bool
    """Whether it executed before anybody looked: only the end of what it wrote until then is shown."""
    over: bool = False
    _tails: dict[tuple[int, int], _Lines] = field(default_factory=dict)
    _said: str = ""

    def print_news(self, settings: Settings, details: RunDetails) -> None:
        """Print what is new of it: its steps, their lines, its end."""
        run = details.view.run
        self._say(f"run {short_id(run.id)} ({called(run)}) {run.status.told}")
        for log in step_logs(settings, details, attempt=run.attempt):
            tail = self._tails.get((run.attempt, log.step.index))
            if tail is None:
                if self.earlier and log.step.finished_at is not None:
                    continue
                tail = self._tails[run.attempt, log.step.index] = _Lines(log, only_end=self.earlier)
            for line in tail.new(over=log.step.finished_at is not None):
                say(f"{short_id(run.id)} {safe_line(log.step.name, width=30)} | {line}", style=None)
        self.earlier = False
        self.over = run.status.terminal

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            say(line, style=self.style, to=errors)


class _Lines:
    """The whole lines of a file that grows."""

    def __init__(self, log: StepLog, *, only_end: bool) -> None:
        size = log.path.stat().st_size if log.path is not None and log.path.exists() else 0
        offset = max(0, size - EARLIER_BYTES) if only_end else 0
        self._tail = Tail(log, offset=offset)
        self._held = b""
        self._cut = offset > 0

    def new(self, *, over: bool) -> Iterator[str]:
        """The lines that are new; with `over` also a last one that nothing ends."""
        for chunk in self._tail.new():
            *whole, self._held = (self._held + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            if self._cut and whole:
                whole, self._cut = whole[1:], False
            yield from map(_shown, whole)
            if len(self._held) > LONGEST_LINE:
                yield _shown(self._held)
                self._held = b""
        if over and self._held:
            yield _shown(self._held)
            self._held = b""


def _shown(line: bytes) -> str:
    return safe_output(line.decode(errors="replace"))
