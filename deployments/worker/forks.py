"""The process that run processes are forked from: it has loaded all that runs need, and gives way to a new one."""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import Any, cast

from deployments.worker.run_process import RunProcessHandle, RunTask, execute

PRELOAD = "deployments.worker.preload"


@dataclass
class _Retired:
    """A fork server that forks no more. It says how its run processes ended, so it stays until all have."""

    pid: int
    alive: int
    """The descriptor that keeps it: it ends when that is closed here and in its children."""
    runs: list[RunProcessHandle]


class Forks:
    """The process that run processes are forked from. It is started again if it dies, and by `renew`."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([PRELOAD])
        self._lock = threading.Lock()
        self._runs: list[RunProcessHandle] = []
        self._retired: list[_Retired] = []
        self._ended: list[int] = []

    def warm_up(self) -> None:
        """Have it load all that runs need. Returns at once; a run that starts before that is done waits for it."""
        with self._lock:
            forkserver.ensure_running()

    def start(self, task: RunTask) -> RunProcessHandle:
        """Fork a process for a run. May wait for what is being loaded, so not for an event loop."""
        with self._lock:
            begins, beginning = self._context.Pipe(duplex=False)
            with beginning:
                name = str(task.flow_run.id)
                process = self._context.Process(target=execute, args=(task, beginning), name=name)
                process.start()
            # each start of another looks after all of these, and might take away the status that a `join` is reading
            multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
            handle = RunProcessHandle(process, begins)
            self._runs = [run for run in self._runs if not run.over]
            self._runs.append(handle)
        return handle

    def renew(self) -> None:
        """Fork from a new process from now on, which loads the present code. Runs that have begun keep the one they
        have.

        The standard library has one fork server and no word for another: what it knows of it is taken from it.
        Raises OSError when there is no room for another process: the previous one stays.
        """
        with self._lock:
            server = cast(Any, forkserver)._forkserver
            before = server._forkserver_address, server._forkserver_alive_fd, server._forkserver_pid
            server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
            try:
                forkserver.ensure_running()
            except OSError:
                server._forkserver_address, server._forkserver_alive_fd, server._forkserver_pid = before
                raise
            _, alive, pid = before
            if pid is not None:
                self._retired.append(_Retired(pid, alive, [run for run in self._runs if not run.over]))
            self._runs = []
        self.end_retired()

    @property
    def retiring(self) -> bool:
        """Whether earlier fork servers still exist."""
        return bool(self._retired or self._ended)

    def end_retired(self) -> None:
        """End the earlier fork servers whose runs are over."""
        with self._lock:
            for one in [one for one in self._retired if all(run.over for run in one.runs)]:
                self._retired.remove(one)
                os.close(one.alive)
                self._ended.append(one.pid)
            self._ended = [pid for pid in self._ended if not _has_ended(pid)]


def _has_ended(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True
