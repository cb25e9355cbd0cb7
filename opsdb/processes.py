"""The processes of a run: find them, kill them (Linux: /proc and pidfds).

Every process of a run carries `OPS_RUN_ID` in its environment, those of a step `OPS_STEP` as well. That finds
a grandchild that called `setsid`; the session and the descendants of a step's shell find one that cleared its
environment. /proc shows the environment a process was *executed* with: for one that was only forked it is its
parent's, whatever it puts into `os.environ`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from opsdb.errors import UsageError

RUN_ID_VARIABLE = "OPS_RUN_ID"
STEP_VARIABLE = "OPS_STEP"

_PR_SET_CHILD_SUBREAPER = 36
_RESCAN_SECONDS = 0.02
_PF_KTHREAD = 0x00200000

_direct_children: set[int] = set()
_direct_children_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Process:
    """One process as /proc showed it; its identity is pid and start time (clock ticks after boot)."""

    pid: int
    start_ticks: int
    ppid: int = field(compare=False)
    group: int = field(compare=False)
    session: int = field(compare=False)
    alive: bool = field(compare=False)
    corpse: bool = field(compare=False)


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


_corpses: frozenset[Process] = frozenset()


def find_processes(
    *,
    run_id: str,
    step: str | None = None,
    shell_pid: int | None = None,
    orphans: bool = False,
    exclude: Collection[int] = (),
) -> list[Process]:
    """The living processes of a run, or of one step of it, with all their descendants; never this one.

    `shell_pid` is the shell of the step, not reaped yet: its session, its process group and its descendants
    belong to the step. `orphans` adds what this process adopted as subreaper, whatever its environment: for the
    run process, at the end of its run, since an orphan does not tell whose step it was. The pids in `exclude` are
    not taken, nor are their descendants unless they match themselves.
    """
    if not run_id or "\0" in run_id + (step or ""):
        raise UsageError(f"run_id must not be empty, and neither run_id nor step hold NUL: {run_id!r}, {step!r}")
    wanted = {f"{RUN_ID_VARIABLE}={run_id}".encode()}
    if step is not None:
        wanted.add(f"{STEP_VARIABLE}={step}".encode())
    skip = {os.getpid(), *exclude}
    global _corpses  # noqa: PLW0603 - what the last look saw, whoever looked
    dead_before = _corpses
    for _ in range(5):
        processes, complete = _snapshot()
        roots: set[int] = set()
        for process in processes.values():
            in_shell = shell_pid is not None and shell_pid in (process.pid, process.session, process.group)
            if in_shell or (orphans and _is_foreign_child(process)):
                roots.add(process.pid)
                continue
            environment = _proc_file(process.pid, "environ") if process.alive and process.pid not in skip else b""
            if environment is None:
                complete = False
            elif wanted <= set(environment.split(b"\0")):
                roots.add(process.pid)
        found = _with_descendants(processes, roots=roots, skip=skip)
        # One that ended while we looked may have left a child behind that was not there yet when we began: it is gone,
        # or a corpse that was none when we last looked.
        corpses = frozenset(process for process in processes.values() if process.corpse)
        if found or (complete and corpses <= dead_before):
            _corpses = corpses
            return found
        dead_before = corpses
    return found


def kill_processes(
    *,
    run_id: str,
    step: str | None = None,
    shell_pid: int | None = None,
    orphans: bool = False,
    exclude: Collection[int] = (),
    grace_seconds: float = 5.0,
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

    def look() -> set[Process]:
        found = set(find_processes(run_id=run_id, step=step, shell_pid=shell_pid, orphans=orphans, exclude=exclude))
        seen.update(found)
        return found

    deadline = time.monotonic() + grace_seconds
    while (alive := look()) and time.monotonic() < deadline and not (hurry and hurry.is_set()):
        # What a warned process starts now, and what that starts, is its clean-up: it has the grace to finish.
        cleaning = {process.pid for process in warned | spared}
        news = alive - warned - spared
        while theirs := {process for process in news if process.ppid in cleaning}:
            cleaning |= {process.pid for process in theirs}
            spared |= theirs
            news -= theirs
        for process in news:
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
        alive = look()
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
        except RuntimeError:  # no thread to be had: then here
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
        if _read(process.pid) != process:
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
    for process in _snapshot()[0].values():
        if process.alive or not _is_foreign_child(process):
            continue
        member = process.session == shell_pid or process.pid in candidates
        if process.pid in adopted or (member and process.pid != process.session):
            with _direct_children_lock:
                if process.pid not in _direct_children:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(process.pid, os.WNOHANG)


def _is_foreign_child(process: Process) -> bool:
    """A child of ours outside our session: a step starts in one of its own, and none of it can come back."""
    return process.ppid == os.getpid() and process.session != os.getsid(0)


def _with_descendants(processes: dict[int, Process], *, roots: set[int], skip: set[int]) -> list[Process]:
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.ppid, []).append(process.pid)
    taken: set[int] = set()
    todo = list(roots - skip)
    while todo:
        pid = todo.pop()
        taken.add(pid)
        todo.extend(child for child in children.get(pid, []) if child not in taken and child not in skip)
    return [processes[pid] for pid in sorted(taken) if processes[pid].alive]


def _snapshot() -> tuple[dict[int, Process], bool]:
    """All processes by pid, and whether each that was listed could be read."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - a Path per process is slow
    processes = {pid: process for pid in pids if (process := _read(pid)) is not None}
    return processes, len(processes) == len(pids)


def _read(pid: int) -> Process | None:
    text = _proc_file(pid, "stat")
    if not text:
        return None
    # The name in parentheses may itself hold parentheses and spaces: proc(5), fields from the third on.
    fields = text[text.rindex(b")") + 2 :].split()
    # The main thread may be gone while others work on. A kernel thread has no environment, and reading it fails as with
    # a process that is gone.
    ended, kernel = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1, bool(int(fields[6]) & _PF_KTHREAD)
    return Process(
        pid=pid,
        start_ticks=int(fields[19]),
        ppid=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        alive=not ended and not kernel,
        corpse=ended and not kernel,
    )


def _proc_file(pid: int, name: str) -> bytes | None:
    """The whole file: empty when it may not be read, None when the process is gone."""
    try:
        handle = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return b""
    except OSError:
        return None
    parts = []
    try:
        while part := os.read(handle, 65536):
            parts.append(part)
    except OSError:  # ended between open and read
        return None
    finally:
        os.close(handle)
    return b"".join(parts)
