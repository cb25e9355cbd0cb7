"""The process of a run: forked from one that is loaded already, as its worker holds it, and what happens in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import FrameType

from prefect.client.schemas.objects import FlowRun

from deployments.worker.prefect_inner import Related, execute_flow, mark_cancelled
from opsdb.listener import guard
from opsdb.processes.running import enter
from opsdb.settings import load_settings

CANCEL_SIGNAL = signal.SIGUSR1
"""Ends the run as cancelled. SIGTERM ends it as crashed."""


@dataclass(frozen=True)
class RunTask:
    """What a run process receives: picklable, and without secrets of other runs."""

    flow_run: FlowRun
    attempt: int
    entrypoint: str
    env: dict[str, str]
    known: tuple[Related, ...]


class RunProcessHandle:
    """A run process as its worker sees it."""

    def __init__(self, process: ForkServerProcess, begins: Connection) -> None:
        self._process = process
        self._begins = begins
        self._pidfd = self._open()
        self.cancelled = False
        self.over = False
        """Whether it has ended, and its exit code was read."""
        self._joining = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    async def started(self, seconds: float) -> None:
        """Return when its runbook begins, when it has ended, or after `seconds`."""
        with contextlib.suppress(TimeoutError), self._begins:
            async with asyncio.timeout(seconds):
                await self._readable(self._begins.fileno())

    async def wait(self) -> int:
        """Its exit code when it has ended; minus the signal's number when a signal ended it."""
        if self._pidfd is not None:
            # not the fork server's word for it: if that dies, all its children seem to have ended
            await self._readable(self._pidfd)
        async with self._joining:  # the status can be read once
            await asyncio.to_thread(self._process.join)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self.over = True
        code = self._process.exitcode
        return 255 if code is None else code

    def cancel(self) -> None:
        """Tell it to stop as cancelled."""
        self.cancelled = True
        self._signal(CANCEL_SIGNAL)

    def terminate(self) -> None:
        """Tell it to stop: it kills its step and reports a crash."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once. Its step's processes are left to the reaper."""
        self._signal(signal.SIGKILL)

    async def _readable(self, descriptor: int) -> None:
        # a duplicate, since an event loop knows one reader for each descriptor, and several may wait
        own, ended = os.dup(descriptor), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(own, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(own)
            os.close(own)

    def _open(self) -> int | None:
        """A handle on exactly this process: its pid may be somebody else's the moment it ends."""
        try:
            return os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)


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
    settings = load_settings()
    guard(settings.prefect_port)
    enter(settings, run_id=task.flow_run.id, attempt=task.attempt)
    execute_flow(task.entrypoint, task.flow_run, task.known, begins=beginning.close)


def _cancel(_number: int, _frame: FrameType | None) -> None:
    mark_cancelled()
    os.kill(os.getpid(), signal.SIGTERM)
