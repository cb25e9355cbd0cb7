"""One part of the room: started, watched until it is ready, and started again when it dies."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployments.room import child
from deployments.room.database_work import DatabaseWork
from deployments.room.effort import Effort
from deployments.room.report import PartReport
from opsdb.errors import RoomUnreachableError
from opsdb.processes.identity import identify
from opsdb.start_signal import BEGIN, START_FD

FIRST_DELAY, LONGEST_DELAY, HEALTHY_SECONDS = 0.5, 30.0, 60.0
POLL_SECONDS = 0.1
CHECK_SECONDS = 5.0  # between two looks at a part that was ready
WARNING = "warning: "
"""How a line of a part that runs once begins which the operator should see."""
FIRST_STARTS = 3  # a part that dies this often without ever having been ready ends the start
LOG_END_BYTES = 4096


@dataclass(frozen=True)
class Part:
    """A program of the room. `ready` takes the time of its start; None means: it runs once and ends with 0.

    `fault` takes that time too, ten times a second, waits for nothing, and says why the process must be killed and
    started again, or None. A part that is not ready may take as long as it works: it ends the start when it did nothing
    for `silent_seconds`, or used `cpu_seconds` of CPU. An `early` program is started before those in `after` are ready,
    and waits for the word itself (`opsdb.start_signal`).
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    ready: Callable[[datetime], bool] | None
    after: tuple[str, ...] = ()
    early: bool = False
    prepare: Callable[[], str | None] | None = None
    user: Mapping[str, Any] | None = None
    stop_signal: int = signal.SIGTERM
    orphan_signal: int = signal.SIGTERM
    grace_seconds: float = 10.0
    silent_seconds: float = 60.0
    cpu_seconds: float = 600.0
    awaited: str = "it ends"
    """What shows that it is ready, for the operator."""
    elsewhere: Callable[[], DatabaseWork] = DatabaseWork
    """What the database does for it, asked when it seems to do nothing."""
    address: str = ""
    fault: Callable[[datetime], str | None] = lambda _started: None
    pass_fds: tuple[int, ...] = ()


def restart_delay(*, previous: float | None, healthy_seconds: float | None) -> float:
    """Seconds to wait before the next start: doubled each time, from the beginning again after a minute of health."""
    if previous is None or (healthy_seconds is not None and healthy_seconds >= HEALTHY_SECONDS):
        return FIRST_DELAY
    return min(LONGEST_DELAY, previous * 2)


class Runner:
    """One part, and where it stands."""

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self.report = PartReport(part.name, address=part.address, stop_signal=part.stop_signal)
        self.process: subprocess.Popen[bytes] | None = None
        self.was_ready = False
        self._line: socket.socket | None = None  # to a program that was started early, for its whole life
        self._loaded = self._begun = False
        self._effort: Effort | None = None
        self._started = self._check_at = self._start_at = 0.0
        self._started_at = datetime.now(UTC)
        self._ready_since: float | None = None
        self._delay: float | None = None
        self._log_begins = 0
        self._shorten_at = 0.0

    @property
    def waiting(self) -> bool:
        """Whether its first start is still to come."""
        return self.process is None and not self.was_ready and self.report.state == "waiting"

    @property
    def starting(self) -> bool:
        """Whether it needs a CPU to get ready: it loads, or its first start is under way."""
        return self.process is not None and not self.was_ready and (self._begun or not self._loaded)

    def turn(self, now: float, *, may_begin: bool) -> None:
        """Take the next step: start it, notice its end, look whether it is ready.

        Raises RoomUnreachableError when it never was ready and will not be.
        """
        if now >= self._shorten_at:
            self._shorten_at = now + CHECK_SECONDS
            self._log_begins = 0 if child.shorten_log(self.log) else self._log_begins
        if self.process is None:
            if self.report.state != "done" and now >= self._start_at and (may_begin or self.part.early):
                self._start(now, may_begin=may_begin)
        elif (code := child.reap(self.process)) is not None:
            self._ended(now, code=code)
        elif self._line is not None and not self._begun:
            self._loaded = self._loaded or bool(select.select([self._line], [], [], 0)[0])
            if may_begin:
                self._begin(now)
        elif (fault := self.part.fault(self._started_at)) is not None:
            self.process.kill()  # the next turn sees its end
            self._change(note=f"{fault}: killed and started again at {datetime.now(UTC):%H:%M:%S} UTC")
        else:
            if self.part.ready is not None and now >= self._check_at:
                self._check(self.part.ready, now)
            if not self.was_ready:
                self._watch(now)

    def stop(self) -> None:
        """End it, by force if need be."""
        if self.process is not None:
            code = child.stop(self.process, number=self.part.stop_signal, grace_seconds=self.part.grace_seconds)
            self.process = None
            self._hang_up()
            self._change(state="stopped", pid=None, start_ticks=None, last_exit=code)
        elif self.report.state != "done":
            self._change(state="stopped")

    def last_words(self) -> str:
        """The end of its log, for the operator."""
        return f"{self.log} ends with: {self._last_line() or '(nothing)'}"

    def _last_line(self, *, begin: int = 0) -> str:
        """The last line of its log that was written after `begin` bytes of it."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(begin, self.log.stat().st_size - LOG_END_BYTES))
                lines = file.read(LOG_END_BYTES).decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip()[:300] if lines else ""

    def _warnings(self) -> str:
        """What its program wrote after `warning: ` since it was started, for the operator."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_begins)
                lines = file.read(64 * 1024).decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "; ".join(line.removeprefix(WARNING)[:300] for line in lines if line.startswith(WARNING))

    def _start(self, now: float, *, may_begin: bool) -> None:
        part = self.part
        env, pass_fds = part.env, part.pass_fds
        theirs: socket.socket | None = None
        if not may_begin:
            self._line, theirs = socket.socketpair()
            env, pass_fds = {**env, START_FD: str(theirs.fileno())}, (*pass_fds, theirs.fileno())
        self._loaded = self._begun = False
        try:
            if part.prepare is not None and not self.was_ready and not self.report.restarts:
                self._change(note=part.prepare() or "")
            self._log_begins = self.log.stat().st_size if self.log.exists() else 0
            self.process = child.spawn(
                part.command,
                env=env,
                cwd=part.cwd,
                log=self.log,
                orphan_signal=part.orphan_signal,
                user=part.user,
                pass_fds=pass_fds,
            )
        except OSError as error:  # a full disk, no process any more: what runs already keeps running
            self._ended(now, code=None, how=f"cannot be started: {error}")
            return
        finally:
            if theirs is not None:
                theirs.close()
        identity = identify(self.process.pid)  # None: it ended at once, which the next turn notices
        self._change(pid=self.process.pid, start_ticks=identity.start_ticks if identity else None)
        if may_begin:
            self._begin(now)

    def _begin(self, now: float) -> None:
        """It may do its work: from now on it starts, and answers for it."""
        self._started, self._check_at, self._started_at = now, now, datetime.now(UTC)
        self._ready_since = None
        self._begun = True
        if self.process is not None:
            self._effort = Effort(self.process.pid, now=now, silent_seconds=self.part.silent_seconds)
        if self._line is not None:
            with suppress(OSError):  # it ended, which the next turn notices
                self._line.sendall(BEGIN)
        self._change(state="starting")

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _ended(self, now: float, *, code: int | None, how: str = "") -> None:
        self.process = None
        self._hang_up()
        gone: dict[str, Any] = {"pid": None, "start_ticks": None, "last_exit": code, "doing": ""}
        if self.part.ready is None and code == 0:
            self.was_ready = True
            ready = round(now - self._started, 1)
            self._change(state="done", ready_seconds=ready, note=self._warnings() or self.report.note, **gone)
            return
        healthy = None if self._ready_since is None else now - self._ready_since
        self._delay = restart_delay(previous=self._delay, healthy_seconds=healthy)
        self._start_at = now + self._delay
        note = how or self.report.note
        self._change(state="restarting", restarts=self.report.restarts + 1, note=note, **gone)
        if not self.was_ready and self.report.restarts >= FIRST_STARTS:
            times = how or f"ended {self.report.restarts} times with exit code {code}"
            raise RoomUnreachableError(f"{self.part.name} {times}; {self.last_words()}")

    def _check(self, ready: Callable[[datetime], bool], now: float) -> None:
        good = ready(self._started_at)
        # a machine that is slow to start is not slowed down by questions
        soon = max(POLL_SECONDS, (now - self._started) / 50)
        self._check_at = time.monotonic() + (CHECK_SECONDS if good else soon if not self.was_ready else 1.0)
        if good and self.report.state != "ready":
            if self._ready_since is None:
                self._ready_since = now
            first = {} if self.was_ready else {"ready_seconds": round(now - self._started, 1)}
            self.was_ready = True
            self._change(state="ready", doing="", **first)
        elif not good and self.report.state == "ready":
            self._change(state="not ready")

    def _watch(self, now: float) -> None:
        """Note how far a start is. Raises RoomUnreachableError when it does not proceed."""
        effort = self._effort
        if effort is None or not effort.look(now):
            return
        seconds = int(now - self._started)
        part = self.part
        doing = self._last_line(begin=self._log_begins) or f"until {part.awaited}"
        if effort.idle:
            elsewhere = part.elsewhere()
            if elsewhere.executing is None or elsewhere.held is not None:
                raise RoomUnreachableError(self._hangs(seconds, elsewhere.held, stopped=effort.stopped))
            doing = elsewhere.executing
            effort.renew()
        if effort.cpu_seconds > part.cpu_seconds:
            raise RoomUnreachableError(
                f"{part.name} is not ready after {seconds} s, though it used {effort.cpu_seconds:.0f} s of CPU "
                f"(ready means: {part.awaited}); {self.last_words()}"
            )
        self.report = replace(self.report, doing=doing, starting_seconds=seconds)

    def _hangs(self, seconds: int, held: str | None, *, stopped: bool) -> str:
        part = self.part
        why = f"; {held}" if held else ""
        if stopped:
            why = f"; somebody stopped its process (`kill -CONT {self.report.pid}` resumes it)"
        return (
            f"{part.name} was not ready after {seconds} s and did nothing for {part.silent_seconds:.0f} s{why}. "
            f"Ready means: {part.awaited}. {self.last_words()}. Hint: read that log, then `ops up` again"
        )

    def _change(self, **values: Any) -> None:
        self.report = replace(self.report, since=datetime.now(UTC).isoformat(timespec="seconds"), **values)
