"""The processes of a run, and how they are found (Linux: /proc).

Every process of a run carries `OPS_RUN_ID` in its environment, those of a step `OPS_STEP` as well. That finds
a grandchild that called `setsid`; the session and the descendants of a step's shell find one that cleared its
environment. /proc shows the environment a process was *executed* with: for one that was only forked it is its
parent's, whatever it puts into `os.environ`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field

from opsdb.errors import UsageError
from opsdb.processes.identity import read_proc_file, read_stat, start_ticks_of

RUN_ID_VARIABLE = "OPS_RUN_ID"
STEP_VARIABLE = "OPS_STEP"

_PF_KTHREAD = 0x00200000


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
        processes, complete = snapshot()
        roots: set[int] = set()
        for process in processes.values():
            in_shell = shell_pid is not None and shell_pid in (process.pid, process.session, process.group)
            if in_shell or (orphans and is_foreign_child(process)):
                roots.add(process.pid)
                continue
            environment = read_proc_file(process.pid, "environ") if process.alive and process.pid not in skip else b""
            if environment is None:
                complete = False
            elif wanted <= set(environment.split(b"\0")):
                roots.add(process.pid)
        found = _with_descendants(processes, roots=roots, skip=skip)
        # A process that ended while we looked may have left a child behind that did not exist when we began: it is
        # gone, or has become a corpse since we last looked.
        corpses = frozenset(process for process in processes.values() if process.corpse)
        if found or (complete and corpses <= dead_before):
            _corpses = corpses
            return found
        dead_before = corpses
    return found


def find_descendants() -> list[Process]:
    """The living processes that descend from this one."""
    processes, _ = snapshot()
    return [one for one in _with_descendants(processes, roots={os.getpid()}, skip=set()) if one.pid != os.getpid()]


def is_foreign_child(process: Process) -> bool:
    """A child of ours outside our session: a step starts in one of its own, and none of it can come back."""
    return process.ppid == os.getpid() and process.session != os.getsid(0)


def snapshot() -> tuple[dict[int, Process], bool]:
    """All processes by pid, and whether each that was listed could be read."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - a Path per process is slow
    processes = {pid: process for pid in pids if (process := read_process(pid)) is not None}
    return processes, len(processes) == len(pids)


def read_process(pid: int) -> Process | None:
    """The process with this pid, or None when there is none."""
    fields = read_stat(pid)
    if not fields:
        return None
    # The main thread may be gone while others work on. A kernel thread has no environment, and reading it fails as with
    # a process that is gone.
    ended, kernel = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1, bool(int(fields[6]) & _PF_KTHREAD)
    return Process(
        pid=pid,
        start_ticks=start_ticks_of(fields),
        ppid=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        alive=not ended and not kernel,
        corpse=ended and not kernel,
    )


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
