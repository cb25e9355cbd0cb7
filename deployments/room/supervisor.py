"""Keeps named child processes running: starts them in order, restarts what dies, stops all in reverse.

One thread and a short poll: nothing here is in a hurry, and there is no second thread to fork beside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from deployments.room import child
from deployments.room.report import GOOD, PartReport, RoomReport, RoomState, write_report
from opsdb.errors import RoomUnreachableError
from opsdb.processes.identity import boot_id, identify

FIRST_DELAY, LONGEST_DELAY, HEALTHY_SECONDS = 0.5, 30.0, 60.0
POLL_SECONDS = 0.1
CHECK_SECONDS = 5.0  # between two looks at a part that was ready
REPORT_SECONDS = 5.0
WARNING = "warning: "
"""How a line of a part that runs once begins which the operator should see."""
FIRST_STARTS = 3  # a part that dies this often without ever having been ready ends the start


@dataclass(frozen=True)
class Part:
    """A program of the room. `ready` takes the time of its start; None means: it runs once and ends with 0.

    `fault` takes that time too, ten times a second, waits for nothing, and says why the process must be killed and
    started again, or None.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    ready: Callable[[datetime], bool] | None
    after: tuple[str, ...] = ()
    prepare: Callable[[], str | None] | None = None
    user: Mapping[str, Any] | None = None
    stop_signal: int = signal.SIGTERM
    orphan_signal: int = signal.SIGTERM
    grace_seconds: float = 10.0
    ready_seconds: float = 120.0
    address: str = ""
    fault: Callable[[datetime], str | None] = lambda _started: None
    pass_fds: tuple[int, ...] = ()


def restart_delay(*, previous: float | None, healthy_seconds: float | None) -> float:
    """Seconds to wait before the next start: doubled each time, from the beginning again after a minute of health."""
    if previous is None or (healthy_seconds is not None and healthy_seconds >= HEALTHY_SECONDS):
        return FIRST_DELAY
    return min(LONGEST_DELAY, previous * 2)


class _Runner:
    """One part, and where it stands."""

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self.report = PartReport(part.name, address=part.address, stop_signal=part.stop_signal)
        self.process: subprocess.Popen[bytes] | None = None
        self.was_ready = False
        self._started = self._check_at = self._start_at = 0.0
        self._started_at = datetime.now(UTC)
        self._ready_since: float | None = None
        self._delay: float | None = None
        self._log_begins = 0

    def turn(self, now: float) -> None:
        """Take the next step: start it, notice its end, look whether it is ready."""
        if self.process is None:
            if self.report.state != "done" and now >= self._start_at:
                self._start(now)
        elif (code := child.reap(self.process)) is not None:
            self._ended(code, now)
        elif (fault := self.part.fault(self._started_at)) is not None:
            self.process.kill()  # the next turn sees its end
            self._change(note=f"{fault}: killed and started again at {datetime.now(UTC):%H:%M:%S} UTC")
        else:
            if self.part.ready is not None and now >= self._check_at:
                self._check(self.part.ready, now)
            if not self.was_ready and now - self._started > self.part.ready_seconds:
                raise RoomUnreachableError(
                    f"{self.part.name} was not ready after {self.part.ready_seconds:.0f} s; {self.last_words()}"
                )

    def stop(self) -> None:
        """End it, by force if need be."""
        if self.process is not None:
            code = child.stop(self.process, number=self.part.stop_signal, grace_seconds=self.part.grace_seconds)
            self.process = None
            self._change(state="stopped", pid=None, start_ticks=None, last_exit=code)
        elif self.report.state != "done":
            self._change(state="stopped")

    def last_words(self) -> str:
        """The end of its log, for the operator."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return f"{self.log} ends with: {lines[-1].strip()[:300] if lines else '(nothing)'}"

    def _warnings(self) -> str:
        """What its program wrote after `warning: ` since it was started, for the operator."""
        with self.log.open("rb") as file:
            file.seek(self._log_begins)
            lines = file.read(64 * 1024).decode(errors="replace").splitlines()
        return "; ".join(line.removeprefix(WARNING)[:300] for line in lines if line.startswith(WARNING))

    def _start(self, now: float) -> None:
        self._started, self._check_at, self._started_at = now, now, datetime.now(UTC)
        self._ready_since = None
        part = self.part
        if part.prepare is not None and not self.was_ready and not self.report.restarts:
            self._change(note=part.prepare() or "")
        self._log_begins = self.log.stat().st_size if self.log.exists() else 0
        self.process = child.spawn(
            part.command,
            env=part.env,
            cwd=part.cwd,
            log=self.log,
            orphan_signal=part.orphan_signal,
            user=part.user,
            pass_fds=part.pass_fds,
        )
        identity = identify(self.process.pid)  # None: it ended at once, which the next turn notices
        self._change(state="starting", pid=self.process.pid, start_ticks=identity.start_ticks if identity else None)

    def _ended(self, code: int, now: float) -> None:
        self.process = None
        gone: dict[str, Any] = {"pid": None, "start_ticks": None, "last_exit": code}
        if self.part.ready is None and code == 0:
            self.was_ready = True
            ready = round(now - self._started, 1)
            self._change(state="done", ready_seconds=ready, note=self._warnings() or self.report.note, **gone)
            return
        healthy = None if self._ready_since is None else now - self._ready_since
        self._delay = restart_delay(previous=self._delay, healthy_seconds=healthy)
        self._start_at = now + self._delay
        self._change(state="restarting", restarts=self.report.restarts + 1, **gone)
        if not self.was_ready and self.report.restarts >= FIRST_STARTS:
            raise RoomUnreachableError(
                f"{self.part.name} ended {self.report.restarts} times with exit code {code}; {self.last_words()}"
            )

    def _check(self, ready: Callable[[datetime], bool], now: float) -> None:
        good = ready(self._started_at)
        self._check_at = time.monotonic() + (CHECK_SECONDS if good else POLL_SECONDS if not self.was_ready else 1.0)
        if good and self.report.state != "ready":
            if self._ready_since is None:
                self._ready_since = now
            first = {} if self.was_ready else {"ready_seconds": round(now - self._started, 1)}
            self.was_ready = True
            self._change(state="ready", **first)
        elif not good and self.report.state == "ready":
            self._change(state="not ready")

    def _change(self, **values: Any) -> None:
        self.report = replace(self.report, since=datetime.now(UTC).isoformat(timespec="seconds"), **values)


class Supervisor:
    """Runs the parts until it is told to stop."""

    def __init__(self, parts: Sequence[Part], *, home: Path, ui: str) -> None:
        self._home = home
        self._runners = {part.name: _Runner(part, home / "log" / f"{part.name}.log") for part in parts}
        self._stop_by: int | None = None
        own = identify(os.getpid())
        self.report = RoomReport(
            pid=os.getpid(),
            start_ticks=own.start_ticks if own else 0,
            boot=boot_id(),
            state="starting",
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ui=ui,
        )

    def run(self, on_turn: Callable[[RoomReport], None] = lambda _report: None) -> None:
        """Start the parts and keep them; returns after a signal, when all have ended.

        `on_turn` is called about ten times a second. Raises RoomUnreachableError when a part does not get ready for
        the first time; everything is stopped then as well.
        """
        with self._signals():
            final: RoomState = "stopped"
            error: str | None = None
            try:
                self._publish("starting", always=True)
                on_turn(self.report)
                while self._stop_by is None:
                    self._turn()
                    self._publish("ready" if self._complete() else "starting")
                    on_turn(self.report)
                    time.sleep(POLL_SECONDS)
            except BaseException as caught:
                final, error = "failed", str(caught)
                raise
            finally:
                self._stop(on_turn)
                self._publish(final, error=error)
                with suppress(Exception, SystemExit):
                    on_turn(self.report)

    def _turn(self) -> None:
        for runner in self._runners.values():
            if runner.process is not None or all(self._runners[name].was_ready for name in runner.part.after):
                runner.turn(time.monotonic())

    def _complete(self) -> bool:
        # once ready, the room stays so: a part that dies later shows in the part itself
        return self.report.state == "ready" or all(runner.report.state in GOOD for runner in self._runners.values())

    def _stop(self, on_turn: Callable[[RoomReport], None]) -> None:
        for runner in reversed(self._runners.values()):
            with suppress(Exception, SystemExit):  # a full disk or a closed terminal must not keep anything alive
                self._publish("stopping")
                on_turn(self.report)
            runner.stop()

    def _publish(self, state: RoomState, *, error: str | None = None, always: bool = False) -> None:
        parts = tuple(runner.report for runner in self._runners.values())
        now = time.monotonic()
        changed = (state, parts) != (self.report.state, self.report.parts)
        if always or changed or now - self.report.alive_at > REPORT_SECONDS:
            self.report = replace(self.report, state=state, parts=parts, error=error, alive_at=now)
            write_report(self._home, self.report)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def remember(number: int, _frame: FrameType | None) -> None:
            self._stop_by = number

        wanted = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup ops up` means what it says
            wanted.append(signal.SIGHUP)
        before = {number: signal.signal(number, remember) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
