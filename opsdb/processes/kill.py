"""Killing the processes of a run: TERM, a grace, KILL, and the reaping of what was adopted (Linux: pidfds)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from opsdb.processes.find import Process, find_processes, is_foreign_child, read_process, snapshot

_PR_SET_CHILD_SUBREAPER = 36
_RESCAN_SECONDS = 0.02

_direct_children: set[int] = set()
_direct_children_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class KillReport:
    """What a kill ladder did: of the `found`, `killed` outlived TERM and `survivors` outlived KILL too."""

    found: int = 0
    killed: int = 0
    survivors: tuple[Process, ...] = ()


def become_subreaper() -> None:
    """Make this process the parent of its orphaned descendants, so that a double fork does not escape it.

    Not inherited by children. Raises OSError where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


@contextlib.contextmanager
def direct_child(start: Callable[[], subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child whose exit status belongs to the caller: no sweep reaps it while the block lasts."""
    with _direct_children_lock:  # a sweep in another thread sees the child registered, or not at all
        child = start()
        _direct_children.add(child.pid)
    try:
        yield child
    finally:
        _direct_children.discard(child.pid)


def kill_processes(
    *,
    run_id: str,
    step: str | None = None,
    shell_pid: int | None = None,
    orphans: bool = False,
    exclude: Collection[int] = (),
    grace_seconds: float,
    kill_seconds: float = 2.0,
    hurry: threading.Event | None = None,
) -> KillReport:
    """TERM to all that `find_processes` finds, up to `grace_seconds`, then KILL until none is left.

    Gives up after `kill_seconds` of KILL. Setting `hurry` ends the grace at once. Adopted processes that ended here
    are reaped, a `direct_child` never is. With `orphans`, every child outside our own session counts as adopted: put
    those that other code waits for into `exclude`.
    """
    seen: set[Process] = set()
    warned: set[Process] = set()
    spared: set[Process] = set()
    killed: set[Process] = set()

    def find_alive() -> set[Process]:
        found = set(find_processes(run_id=run_id, step=step, shell_pid=shell_pid, orphans=orphans, exclude=exclude))
        seen.update(found)
        return found

    deadline = time.monotonic() + grace_seconds
    while (alive := find_alive()) and time.monotonic() < deadline and not (hurry and hurry.is_set()):
        # What a warned process starts now, and what that starts, is its clean-up: it has the grace to finish.
        cleaning = {process.pid for process in warned | spared}
        news = alive - warned - spared
        while theirs := {process for process in news if process.ppid in cleaning}:
            cleaning |= {process.pid for process in theirs}
            spared |= theirs
            news -= theirs
        # The oldest first: a shell that sees its child die before it gets the TERM itself may end without its trap.
        for process in sorted(news, key=lambda one: (one.start_ticks, one.pid)):
            _send(process, signal.SIGTERM)
            _send(process, signal.SIGCONT)  # a stopped process would never see the TERM
        warned |= news
        time.sleep(_RESCAN_SECONDS)
    deadline = time.monotonic() + kill_seconds
    while alive and time.monotonic() < deadline:
        for process in alive:
            _send(process, signal.SIGKILL)
            killed.add(process)
        time.sleep(_RESCAN_SECONDS / 4)
        alive = find_alive()
    _reap_adopted(seen, shell_pid=shell_pid, orphans=orphans)
    return KillReport(found=len(seen), killed=len(killed), survivors=tuple(alive))


class KillLadder:
    """`kill_processes` for one step, in a thread of its own, where no signal handler can interrupt it."""

    def __init__(self, *, run_id: str, step: str, grace_seconds: float, kill_seconds: float) -> None:
        self.shell_pid: int | None = None
        self.report = KillReport()
        self.error: Exception | None = None
        self.done = threading.Event()
        self._run_id = run_id
        self._step = step
        self._grace_seconds = grace_seconds
        self._kill_seconds = kill_seconds
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def needed(self) -> bool:
        """Whether anything of the step is alive."""
        return bool(find_processes(run_id=self._run_id, step=self._step, shell_pid=self.shell_pid))

    def start(self) -> None:
        """Begin to kill; `done` is set when `report` or `error` says what came of it."""
        try:
            thread = threading.Thread(target=self._climb, name=f"kill step {self._step}")
            thread.start()
            self._thread = thread
        except RuntimeError:  # no thread could be started: then here
            self._climb()

    def finish(self) -> None:
        """Kill all, and be sure of it: what is raised in this thread meanwhile only ends the grace."""
        while not self.done.is_set():
            try:
                if self._thread is None:
                    self.start()
                self.done.wait()
            except BaseException:  # a second signal: the first one is on its way to the caller
                self._hurry.set()

    def _climb(self) -> None:
        try:
            self.report = kill_processes(
                run_id=self._run_id,
                step=self._step,
                shell_pid=self.shell_pid,
                grace_seconds=self._grace_seconds,
                kill_seconds=self._kill_seconds,
                hurry=self._hurry,
            )
        except Exception as error:  # such as no file descriptor left to look into /proc
            self.error = error
            if self.shell_pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.shell_pid, signal.SIGKILL)
        self.done.set()


def _send(process: Process, number: signal.Signals) -> bool:
    """Signal exactly this process: the pidfd holds on to one, the start time says that it is the one meant."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if read_process(process.pid) != process:
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:  # ended, or of another user: then it is counted as a survivor
        return False
    finally:
        os.close(handle)
    return True


def _reap_adopted(seen: Collection[Process], *, shell_pid: int | None, orphans: bool) -> None:
    """Reap the zombies among `seen` and in the shell's session that are children of ours by adoption only.

    A status that is taken from the one who waits for it turns into success (subprocess reports 0), so a doubtful case
    stays a zombie: the leader of a session may be a child that other code here started.
    """
    candidates = {process.pid for process in seen}
    adopted = {process.pid for process in seen if orphans or process.ppid != os.getpid()}
    for process in snapshot()[0].values():
        if process.alive or not is_foreign_child(process):
            continue
        member = process.session == shell_pid or process.pid in candidates
        if process.pid in adopted or (member and process.pid != process.session):
            with _direct_children_lock:
                if process.pid not in _direct_children:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(process.pid, os.WNOHANG)
