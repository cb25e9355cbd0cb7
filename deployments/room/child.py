"""One child process of the room: started, known by pid and start time, stopped by its own pid (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from opsdb.processes.identity import Identity

LOG_BYTES = 10 * 1024 * 1024

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def send(identity: Identity, number: int, *, group: bool = False) -> bool:
    """Signal this very process, or its process group. Returns False when it is gone."""
    try:
        handle = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        if not identity.alive:  # compared after the handle was taken: the handle is of this process or of none
            return False
        with suppress(ProcessLookupError):
            if group:
                os.killpg(identity.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
        return True
    finally:
        os.close(handle)


def wait_gone(identity: Identity, seconds: float) -> bool:
    """Wait for the end of a process that is not our child. Returns whether it ended."""
    deadline = time.monotonic() + seconds
    while identity.alive:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    orphan_signal: int,
    user: Mapping[str, Any] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, with default signals, its output appended to `log`.

    The kernel sends it `orphan_signal` when we die. `user` holds the keywords `user`, `group`, `extra_groups`. Of our
    open files it gets `pass_fds` alone.
    """
    parent = os.getpid()

    def become_child() -> None:  # runs after setuid, which would clear the parent-death signal
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # a shell's `ops up &` ignores SIGINT, and ignored signals survive exec
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        _libc.prctl(_PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    with open_log(log) as output:
        return subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=become_child,  # noqa: PLW1509  # the supervisor has one thread
            **(user or {}),
        )


def open_log(path: Path) -> Any:
    """The log file, to append to; one that has grown too large is put aside first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    return open(path, "ab", opener=_private)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def shorten_log(path: Path) -> bool:
    """Put aside what a log holds that has grown too large, while its program continues to append. Returns whether it
    did.

    The program keeps the file open, so it is copied and then emptied, at the end of a line unless none comes. Nothing
    that is in the file is lost; what is written between the last look and the emptying, microseconds, would be. A full
    disk is not made fuller: what was copied by then goes, the log stays whole, and it is tried again.
    """
    copied = path.with_name(f"{path.name}.new")
    try:
        with path.open("r+b") as log:
            size = log.seek(0, os.SEEK_END)
            if size <= LOG_BYTES or not (_ends_a_line(log) or size > 2 * LOG_BYTES):
                return False
            log.seek(0)
            with open(copied, "wb", opener=_private) as aside:
                while chunk := log.read(1024 * 1024):
                    aside.write(chunk)
                    aside.flush()  # a disk that is full by then is noticed before anything goes
                copied.replace(path.with_name(f"{path.name}.1"))  # killed here, it is there twice
                os.ftruncate(log.fileno(), 0)
    except OSError:
        copied.unlink(missing_ok=True)
        return False
    return True


def _ends_a_line(log: BinaryIO) -> bool:
    log.seek(-1, os.SEEK_END)
    return log.read(1) == b"\n"


def reap(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a child that ended, else None. What is left of its process group is killed first."""
    if process.returncode is None:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        with suppress(ProcessLookupError, PermissionError):  # not reaped yet, so the number is still the group's
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def stop(process: subprocess.Popen[bytes], *, number: int, grace_seconds: float) -> int:
    """Signal a child, give it time, kill its process group. Returns its exit code."""
    if reap(process) is None:
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # one that somebody stopped hears nothing else
        deadline = time.monotonic() + grace_seconds
        while reap(process) is None:
            if time.monotonic() >= deadline:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.02)
    return process.wait()
