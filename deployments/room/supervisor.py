"""Keeps named child processes running: starts them in order, restarts what dies, stops all in reverse.

One thread and a short poll: nothing here is in a hurry, and there is no second thread to fork beside.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from deployments.room.report import GOOD, RoomReport, RoomState, write_report
from deployments.room.runner import POLL_SECONDS, Part, Runner
from opsdb.processes.identity import boot_id, identify

REPORT_SECONDS = 5.0
STARTS_AT_ONCE = max(2, len(os.sched_getaffinity(0)))
"""More would only take the CPUs from the first ones, for which the others wait."""
UNWRITTEN_SECONDS = 1.0
"""Before a report that a full disk did not take is written again."""


class Supervisor:
    """Runs the parts until it is stopped."""

    def __init__(
        self, parts: Sequence[Part], *, home: Path, ui: str, decided_by: Mapping[str, str] | None = None
    ) -> None:
        self._home = home
        self._runners = {part.name: Runner(part, home / "log" / f"{part.name}.log") for part in parts}
        self._stop_by: int | None = None
        self._write_at = 0.0
        own = identify(os.getpid())
        self.report = RoomReport(
            pid=os.getpid(),
            start_ticks=own.start_ticks if own else 0,
            boot=boot_id(),
            state="starting",
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ui=ui,
            decided_by=decided_by or {},
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
            starting = sum(one.starting for one in self._runners.values())
            if runner.waiting and starting >= STARTS_AT_ONCE:
                continue
            may_begin = all(self._runners[name].was_ready for name in runner.part.after)
            runner.turn(time.monotonic(), may_begin=may_begin)

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
        if now >= self._write_at or changed or always:
            self.report = replace(self.report, state=state, parts=parts, error=error, alive_at=now)
            self._write_at = now + REPORT_SECONDS
            try:
                write_report(self._home, self.report)
            except OSError:  # a full disk ends nothing that works; `ops status` says that the report is old
                self._write_at = now + UNWRITTEN_SECONDS

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
