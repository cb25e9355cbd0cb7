"""Whether a program that starts still works at it: a slow start continues, and one that hangs is ended.

Work is CPU time of the program and of all that it started, and what it spends waiting for a CPU or a disk. A busy
machine therefore ends no start. A program that waits for a lock that nobody gives back, or was stopped, does none.
"""

from __future__ import annotations

import psutil

LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 2.0
"""What counts at most between two looks: whoever looks may have been stopped, or without a CPU, itself."""
SHARE = 0.05
"""Of its time a program must work; what polls for something that does not come takes less."""
WANTS_ON = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)


class Effort:
    """What a process and its descendants do, looked at once a second at most."""

    def __init__(self, pid: int, *, now: float, silent_seconds: float) -> None:
        """`now` is of the monotonic clock. Idle means: of `silent_seconds` in a row it worked less than a twentieth."""
        self._pid = pid
        self._limit = silent_seconds
        self._looked_at = now
        self._look_seconds = min(LOOK_SECONDS, silent_seconds / 5)
        self._seen, self._worked = 0.0, 0.0
        self._cpu: dict[int, float] = {}
        self.cpu_seconds = 0.0
        """Of all of them, since the beginning."""

    def look(self, now: float) -> bool:
        """Look at them, if it is time. Returns whether it looked."""
        passed = now - self._looked_at
        if passed < self._look_seconds:
            return False
        self._looked_at = now
        passed = min(passed, LONGEST_LOOK_SECONDS)
        before = self.cpu_seconds
        wants_on = self._add_up()
        self._seen += passed
        self._worked += max(passed if wants_on else 0.0, self.cpu_seconds - before)
        if self._worked >= SHARE * self._limit:
            self.renew()
        return True

    @property
    def idle(self) -> bool:
        """Whether it did next to nothing for too long."""
        return self._seen >= self._limit

    def renew(self) -> None:
        """Begin to count again: it was seen to work."""
        self._seen = self._worked = 0.0

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped its process (SIGSTOP)."""
        try:
            return psutil.Process(self._pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def _add_up(self) -> bool:
        """Add what CPU time was used since the last look. Returns whether one of the processes still has work to do."""
        wants_on = False
        try:
            own = psutil.Process(self._pid)
            processes = [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return False
        for process in processes:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    wants_on |= process.status() in WANTS_ON
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            used = times.user + times.system
            self.cpu_seconds += max(0.0, used - self._cpu.get(process.pid, 0.0))
            self._cpu[process.pid] = used
        return wants_on
