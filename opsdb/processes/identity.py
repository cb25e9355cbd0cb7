"""Who a process is (Linux: /proc): boot, pid and start time together, so that no later one is taken for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A process of this boot. Start time in clock ticks after boot."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return identify(self.pid) == self


def boot_id() -> str:
    """The running boot: an Identity means nothing in another one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Identity | None:
    """The live process with this pid; None when there is none, or only its corpse."""
    fields = read_stat(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else Identity(pid, start_ticks_of(fields))


def read_stat(pid: int) -> list[bytes]:
    """The fields of `/proc/PID/stat` from the third on, which is its state: see proc(5). Empty when it is gone."""
    text = read_proc_file(pid, "stat") or b""
    # the second is a name in parentheses, which may itself hold parentheses and spaces
    return text[text.rfind(b")") + 1 :].split()


def start_ticks_of(fields: list[bytes]) -> int:
    """The start time among the fields of `read_stat`."""
    return int(fields[19])


def read_proc_file(pid: int, name: str) -> bytes | None:
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
