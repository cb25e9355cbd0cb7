"""How a run process stops on request, or when it must not continue."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import NoReturn
from uuid import UUID

from opsdb.processes import exit_codes
from opsdb.processes.kill import kill_processes

PARK_SIGNAL = signal.SIGUSR2
"""Holds the main thread of a process that is about to end without another word."""


class LaneOrders:
    """What a run process does when the database, or Prefect, stops it. Called from any thread.

    `fenced` is set before anything of the run is ended, so that its steps know that they were not heard to the end.
    """

    def __init__(self, *, run_id: UUID, fenced: threading.Event) -> None:
        self._run_id = run_id
        self._fenced = fenced
        self._worker = multiprocessing.parent_process()  # None where Prefect's own process worker started us
        self._parent = os.getppid()
        self._parked = threading.Event()
        signal.signal(PARK_SIGNAL, self._park)

    def fenced(self) -> None:
        """Somebody declared us dead: end at once, without another effect and without another word."""
        self._end(exit_codes.FENCED)

    def cancelled(self) -> None:
        """The worker cancels its runs itself; without one, this process does."""
        # our parent is the fork server, which lives as long as we do
        orphaned = os.getppid() != self._parent if self._worker is None else not self._worker.is_alive()
        if orphaned and not self._fenced.is_set():
            self._fenced.set()
            os.environ["PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"] = "true"  # nobody else will report it
            os.kill(os.getpid(), signal.SIGUSR1)

    def cut_off(self) -> None:
        """We may be declared dead any moment: a run that may be repeated stops before it is started elsewhere."""
        self._end(exit_codes.CUT_OFF)

    def _end(self, exit_code: int) -> NoReturn:
        self._fenced.set()
        if threading.current_thread() is not threading.main_thread():
            # else the runbook would take the death of its step for the step's own end, and tell Prefect so
            signal.pthread_kill(threading.main_thread().ident or 0, PARK_SIGNAL)
            self._parked.wait(1)
        kill_processes(
            run_id=str(self._run_id), orphans=True, grace_seconds=0
        )  # in a lane a process serves one run only
        os._exit(exit_code)

    def _park(self, _number: int, _frame: object) -> None:
        self._parked.set()
        while True:  # the process ends from the other thread
            time.sleep(60)
