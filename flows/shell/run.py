"""One shell command: its deadline, its output, and that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from typing import IO

from flows.shell.environment import check_text, step_environment
from flows.shell.masking import SecretPatterns
from flows.shell.output import OutputLimits, StepStreams, Stream
from flows.shell.reason import explained
from opsdb.errors import StepFailedError, StepTimeoutError, UsageError
from opsdb.processes.kill import KillLadder, direct_child
from opsdb.shown import QUOTE

# An unset variable, a command that fails, in a pipe or in $( ) too, ends the step.
_BASH_OPTIONS = ("--noprofile", "--norc", "-O", "inherit_errexit", "-euo", "pipefail")

_PIPE_BYTES = 256 * 1024
_DRAIN_SECONDS = 0.5  # for the end of the output after the shell's own end
_KILL_SECONDS = 1.5  # for KILL to take effect: with a grace of 5 s the step is over within timeout + 7 s


@dataclass(frozen=True, slots=True)
class ShellResult:
    """What came of a command. `stdout` and `stderr` are the last of each: bounded, masked and printable."""

    exit_code: int  # 128 + n when signal n ended the shell
    stdout: str
    stderr: str
    log_path: Path
    log_bytes: int
    log_truncated: bool  # the middle of the output was left out
    log_error: str | None  # why the log is incomplete, when writing it failed
    duration_seconds: float
    leftovers_killed: int  # processes that were still there after the end of the shell
    survivors: tuple[int, ...]  # pids that outlived KILL, or belong to another user


class ShellFailedError(StepFailedError):
    """The command ended with an exit code other than 0."""

    result: ShellResult


class ShellTimeoutError(StepTimeoutError):
    """The command ran longer than its timeout and was stopped."""

    result: ShellResult


def run_shell(
    command: str,
    *,
    timeout_seconds: float,
    env: Mapping[str, str],
    secrets: Mapping[str, str],
    run_id: str,
    step: str,
    name: str = "",
    log_path: Path,
    working_dir: Path,
    on_line: Callable[[str], None],
    grace_seconds: float,
    limits: OutputLimits = OutputLimits(),  # noqa: B008 - frozen
    rest: str = "",
) -> ShellResult:
    """Run a command in bash, from any thread, and return when it and all that it started are gone.

    `env` and `secrets` reach it as environment variables, beside a short list of the parent's. `on_line` gets its
    masked, printable lines while it runs, `log_path` (replaced) the masked bytes. `step` is its number, by which its
    processes are found, and `name` what errors call it. `rest` says where all lines are when some are cut: by default
    the log file.

    Raises UsageError before anything starts, ShellFailedError and ShellTimeoutError with the `result`, and
    StepFailedError when the shell could not be started or watched. Whatever else is raised in this thread meanwhile,
    by a signal or by `on_line`, is raised in the caller after everything of the step was killed.
    """
    patterns = SecretPatterns(secrets)
    environment = step_environment(env=env, secrets=secrets, run_id=run_id, step=step)
    check_text("the command", command)
    if not 0 < timeout_seconds < math.inf:
        raise UsageError(f"timeout_seconds must be a number above 0, not {timeout_seconds!r}")
    if not working_dir.is_dir():
        raise UsageError(f"the working directory {working_dir} does not exist")
    started = time.monotonic()
    ladder = KillLadder(run_id=run_id, step=step, grace_seconds=grace_seconds, kill_seconds=_KILL_SECONDS)
    output = StepStreams(secrets=patterns, log_path=log_path, on_line=on_line, limits=limits, rest=rest)
    try:
        with direct_child(lambda: _start(command, environment, working_dir)) as shell:
            timed_out, exit_code = _supervise(shell, output, ladder, deadline=started + timeout_seconds)
    except BaseException:
        ladder.finish()  # also for an exception that came before the shell was in our hands
        with contextlib.suppress(Exception):
            output.abandon()
        raise
    result = ShellResult(
        exit_code=exit_code,
        stdout=output.tail("stdout"),
        stderr=output.tail("stderr"),
        log_path=log_path,
        log_bytes=output.log.written,
        log_truncated=output.log.cut,
        log_error=output.log.error,
        duration_seconds=time.monotonic() - started,
        leftovers_killed=0 if timed_out else ladder.report.found,
        survivors=tuple(process.pid for process in ladder.report.survivors),
    )
    if timed_out:
        late = ShellTimeoutError(
            _story(f"step {name or step} ran longer than {timeout_seconds:g} s and was stopped", result)
        )
        late.result = result
        raise late
    if exit_code != 0:
        failed = ShellFailedError(
            _story(f"step {name or step} failed: {_exit_words(exit_code)}", result), exit_code=exit_code
        )
        failed.result = result
        raise failed
    return result


def _supervise(
    shell: subprocess.Popen[bytes], output: StepStreams, ladder: KillLadder, *, deadline: float
) -> tuple[bool, int]:
    """See the shell to its end, by itself or at the deadline. Returns whether it was late, and its exit code."""
    try:
        ladder.shell_pid = shell.pid
        with _Watch(shell, output) as watch:
            try:
                timed_out = _wait(watch, ladder, deadline=deadline)
                output.close()
                return timed_out, watch.exit_code()
            except BaseException:
                ladder.finish()
                output.mute()
                watch.read(until=lambda: not watch.streams, deadline=time.monotonic() + 0.2)  # its last words
                raise
    except BaseException:
        ladder.finish()
        raise
    finally:
        shell.poll()  # reaped only now: until here its pid named the session


def _wait(watch: _Watch, ladder: KillLadder, *, deadline: float) -> bool:
    """Read until the shell has ended or the deadline is there, and kill what is left. Returns whether it was late."""
    watch.read(until=lambda: watch.ended, deadline=deadline)
    timed_out = not watch.ended
    if not timed_out:
        watch.read(until=lambda: not watch.streams, deadline=time.monotonic() + _DRAIN_SECONDS)
    if timed_out or ladder.needed():
        ladder.start()
        # Reading continues: what is killed may have something to say, and would hang on a full pipe.
        watch.read(until=ladder.done.is_set, deadline=math.inf, poll_seconds=0.02)
        watch.read(until=lambda: watch.ended and not watch.streams, deadline=time.monotonic() + 0.2)
    if ladder.error is not None:
        raise StepFailedError(f"the step's processes could not be looked up: {ladder.error}") from ladder.error
    return timed_out


class _Watch:
    """The shell's two pipes and its end, in one selector."""

    def __init__(self, shell: subprocess.Popen[bytes], output: StepStreams) -> None:
        self.ended = False
        self.streams: dict[int, Stream] = {}
        self._output = output
        self._shell = shell
        self._pidfd = -1
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Watch:
        pipes: list[tuple[IO[bytes] | None, Stream]] = [(self._shell.stdout, "stdout"), (self._shell.stderr, "stderr")]
        self.streams = {pipe.fileno(): stream for pipe, stream in pipes if pipe}
        for handle in self.streams:
            with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: the default will do
                fcntl(handle, F_SETPIPE_SZ, _PIPE_BYTES)
            self._selector.register(handle, selectors.EVENT_READ)
        with _status_must_be_there():
            self._pidfd = os.pidfd_open(self._shell.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for pipe in (self._shell.stdout, self._shell.stderr):
            if pipe:
                pipe.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def read(self, *, until: Callable[[], bool], deadline: float, poll_seconds: float = 3600) -> None:
        """Pass output on until `until` says so or the deadline (of the monotonic clock) is over."""
        while not until() and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(min(left, poll_seconds)):
                if key.fd == self._pidfd:
                    self.ended = True
                    self._selector.unregister(key.fd)
                elif data := os.read(key.fd, _PIPE_BYTES):
                    self._output.feed(self.streams[key.fd], data)
                else:
                    self._selector.unregister(key.fd)
                    del self.streams[key.fd]

    def exit_code(self) -> int:
        """Of the shell, which stays unreaped; 137 when it could not even be killed."""
        # Popen would report 0 for a child whose status somebody else took.
        with _status_must_be_there():
            status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if status is None:
            return 128 + signal.SIGKILL
        return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status


def _start(command: str, environment: Mapping[str, str], working_dir: Path) -> subprocess.Popen[bytes]:
    bash = shutil.which("bash") or "/bin/bash"
    # env resets and unblocks the signals that our parent had us ignore or block: bash itself cannot, and a hook after
    # the fork is not safe beside other threads. Without such a hook Popen uses vfork: it returns after the exec, so
    # an exception from a signal handler cannot come between, when no mark would tell the process.
    arguments = ["/usr/bin/env", "--default-signal", "--", bash, *_BASH_OPTIONS, "-c", "--", command]
    try:
        return subprocess.Popen(
            arguments,
            env=environment,
            cwd=working_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise UsageError("the command, env and secrets together are too long to start a process with") from error
        raise StepFailedError(f"the shell could not be started: {error}") from error


@contextlib.contextmanager
def _status_must_be_there() -> Iterator[None]:
    try:
        yield
    except (ProcessLookupError, ChildProcessError) as error:
        raise StepFailedError("the exit status of the shell was taken by someone else (SIGCHLD ignored?)") from error


def _exit_words(exit_code: int) -> str:
    if exit_code <= 128:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return f"exit code {exit_code}"
    return f"exit code {exit_code} (killed by {name})"


def _story(what: str, result: ShellResult) -> str:
    """One message: what happened, what could not be killed, and what stderr or else stdout says of the reason."""
    if result.survivors:
        what += f"; could not be killed: pid {', '.join(map(str, result.survivors))}"
    lines = explained(result.stderr.strip() or result.stdout.strip())
    return "\n".join([what, *(QUOTE + line[:500] for line in lines)])
