"""What a process and all its descendants cost (Linux: /proc)."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from deployments.room import child
from opsdb.processes.identity import identify


def tree(root: int) -> list[psutil.Process]:
    """The process and its living descendants; empty when it is gone."""
    try:
        top = psutil.Process(root)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(root: int) -> float:
    """CPU time of the tree, with that of descendants which have ended and were waited for."""
    total = 0.0
    for process in tree(root):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def own_cpu_seconds(pid: int) -> float:
    """CPU time of this one process."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def pss_bytes(root: int) -> int:
    """Memory of the tree, where a page that several processes share is divided between them (PSS)."""
    total = 0
    for process in tree(root):
        with suppress(OSError):  # it ended meanwhile, or is a zombie without memory
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def carrying(marks: list[str]) -> list[int]:
    """The processes in whose environment or command line, as they were started, one of the marks stands."""
    wanted = [mark.encode() for mark in marks]
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208  # a Path per process is slow
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            text = Path(f"/proc/{name}/environ").read_bytes() + Path(f"/proc/{name}/cmdline").read_bytes()
            if any(mark in text for mark in wanted):
                found.append(int(name))
    return found


def stop_tree(process: subprocess.Popen[bytes], *, number: int = signal.SIGTERM, grace_seconds: float) -> int:
    """Stop a child of ours; what of its tree outlives it is killed, each by pid and start time.

    Returns how many outlived it.
    """
    identities = [identity for member in tree(process.pid) if (identity := identify(member.pid))]
    child.stop(process, number=number, grace_seconds=grace_seconds)
    survivors = [identity for identity in identities if identity.alive]
    for identity in survivors:
        child.send(identity, signal.SIGKILL)
    return len(survivors)
