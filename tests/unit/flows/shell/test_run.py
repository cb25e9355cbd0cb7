"""One shell command, and how it can go wrong: cases 12 to 16 and 18 of the reliability page.

Cases 10 and 11 take time: tests/integration/flows/test_shell_endings.py.
"""

from __future__ import annotations

import base64
import errno
import os
import pickle
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from flows.shell.output import OutputLimits
from flows.shell.run import ShellFailedError, ShellTimeoutError
from opsdb.errors import StepError, StepFailedError, UsageError
from opsdb.processes.kill import kill_processes
from tests.support.programs import needs_root
from tests.support.steps import IGNORING, Room, python


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    here = Room(tmp_path)
    yield here
    kill_processes(run_id=here.run_id, grace_seconds=0)


def test_result_of_a_command(room: Room) -> None:
    result = room("echo out; echo err >&2; pwd")
    assert (result.exit_code, result.stderr) == (0, "err\n")
    assert result.stdout.splitlines() == ["out", str(room.folder)]
    assert sorted(room.lines) == sorted(["out", "err", str(room.folder)])
    assert result.log_bytes == result.log_path.stat().st_size > 0
    assert (result.log_truncated, result.log_error, result.leftovers_killed, result.survivors) == (False, None, 0, ())
    assert stat.S_IMODE(result.log_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(result.log_path.parent.stat().st_mode) == 0o700


def test_timeout_stops_what_ignores_term(room: Room) -> None:
    with pytest.raises(ShellTimeoutError, match=r"ran longer than 2 s") as raised:
        room("echo begun; " + IGNORING, timeout=2, grace=0.2)
    assert room.alive() == []
    assert raised.value.result.stdout == "begun\n"


# Case 12: much output (1 GiB: tests/acceptance/test_shell_volume.py).


def test_much_output_is_capped_and_marked(room: Room) -> None:
    limits = OutputLimits(log_bytes=100_000, log_tail_bytes=1000, tail_bytes=2000)
    result = room("for i in $(seq 50000); do echo out $i; echo err $i >&2; done; echo last", limits=limits)
    assert result.log_truncated
    assert result.log_bytes < 101_100
    content = result.log_path.read_text()
    assert "bytes cut here]" in content
    assert content.endswith(("last\n", "err 50000\n"))  # which pipe is read last is chance
    assert len(result.stdout) <= 2000
    assert result.stdout.endswith("out 50000\nlast\n")
    assert result.stderr.endswith("err 50000\n")
    assert len(room.lines) <= limits.lines
    assert any(f"lines cut here; see {result.log_path}" in line for line in room.lines)
    assert "last" in room.lines


# Case 13: hostile bytes.


def test_hostile_bytes_leave_the_lines_around_them(room: Room) -> None:
    result = room(r"printf 'before\n\0\n\377\376\n\355\240\200\n\33[31mred\33[0m\n1%%\r2%%\r3%%\nafter\n'")
    assert room.lines == ["before", "", "\ufffd\ufffd", "\ufffd\ufffd\ufffd", "red", "3%", "after"]
    assert result.stdout.splitlines() == room.lines
    assert b"\0\n\377\376\n" in result.log_path.read_bytes()


# Case 14: what counts as failed.


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [
        ("false; true", 1),
        ("false | gzip > /dev/null", 1),
        ("x=$(false; echo hidden); true", 1),
        ("echo $unset_variable; true", 1),
        ("exit 3", 3),
        ("kill -KILL $$", 137),
        ("bash -c 'kill -SEGV $$'", 139),
        ("no-such-program", 127),
        ("-x", 127),
    ],
)
def test_failure_has_its_exit_code(room: Room, command: str, exit_code: int) -> None:
    with pytest.raises(ShellFailedError) as raised:
        room(command)
    assert raised.value.exit_code == raised.value.result.exit_code == exit_code


def test_failure_names_the_signal_and_holds_the_last_lines(room: Room) -> None:
    with pytest.raises(StepFailedError, match=r"step 1 failed: exit code 137 \(killed by SIGKILL\)\n\| why$"):
        room("echo noise; echo why >&2; kill -KILL $$")
    with pytest.raises(StepFailedError, match=r"exit code 1\n\| only stdout$"):
        room("echo only stdout; exit 1")


def test_failure_can_be_pickled(room: Room) -> None:
    """Prefect stores exceptions of tasks."""
    with pytest.raises(ShellFailedError) as raised:
        room("exit 3")
    assert pickle.loads(pickle.dumps(raised.value)).result == raised.value.result  # noqa: S301 - our own bytes


def test_background_child_does_not_hold_the_step(room: Room) -> None:
    before = time.monotonic()
    result = room("sleep 60 & echo done")
    assert time.monotonic() - before < 3
    assert result.stdout == "done\n"
    assert result.leftovers_killed == 1
    assert room.alive() == []


# Case 15: the environment.


def test_environment_is_an_allow_list_and_its_own(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_AUTH_STRING", "OPS_DATABASE_URL", "BASH_ENV", "ENV", "AWS_SECRET_ACCESS_KEY", "LC_ALL_X"):
        monkeypatch.setenv(name, "/leaked")
    monkeypatch.setenv("LC_TIME", "C")
    room("exec env -0 | tr '\\0' '\\n'", env={"ODOO_DB": "odoo prod"}, secrets={"PGPASSWORD": "correct-horse"})
    seen = dict(line.split("=", 1) for line in room.lines)
    assert set(seen) <= {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "LC_TIME", "LC_ALL", "LC_CTYPE"),
        *("ODOO_DB", "PGPASSWORD", "OPS_RUN_ID", "OPS_STEP", "PWD", "SHLVL", "_"),
    }
    assert seen["ODOO_DB"] == "odoo prod"
    assert seen["PGPASSWORD"] == "***"
    assert (seen["OPS_RUN_ID"], seen["OPS_STEP"], seen["LC_TIME"]) == (room.run_id, "1", "C")


def test_umask_is_077_and_stdin_is_empty(room: Room) -> None:
    assert room("umask; cat").stdout == "0077\n"


def test_nothing_of_the_parent_is_inherited_but_stdin_stdout_stderr(room: Room) -> None:
    handle = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(handle, True)
    try:
        assert room("ls /proc/$$/fd; true").stdout.split() == ["0", "1", "2"]
    finally:
        os.close(handle)


def test_ignored_and_blocked_signals_are_not_inherited(tmp_path: Path) -> None:
    script = """
        import signal, sys
        from pathlib import Path
        from flows.shell.run import run_shell
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        run_shell("grep -E 'Sig(Ign|Blk)' /proc/self/status", timeout_seconds=10, env={}, secrets={}, run_id="signals",
                  step="1", log_path=Path(sys.argv[1]) / "log", working_dir=Path("/"), on_line=print, grace_seconds=5)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM, signal.SIGUSR1}
    """
    blocked, ignored = (int(line.split()[1], 16) for line in python(script, str(tmp_path)).splitlines())
    # 32 and 33 are glibc's own: what `make` starts inherits them as ignored, and no program can change that
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)


def test_exit_status_that_the_kernel_threw_away_is_not_success(tmp_path: Path) -> None:
    script = """
        import signal, sys
        from pathlib import Path
        from flows.shell.run import run_shell
        from opsdb.errors import StepFailedError
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            run_shell("exit 3", timeout_seconds=10, env={}, secrets={}, run_id="status", step="1",
                      log_path=Path(sys.argv[1]) / "log", working_dir=Path("/"), on_line=print, grace_seconds=5)
        except StepFailedError as error:
            print(error)
    """
    assert "exit status of the shell was taken" in python(script, str(tmp_path))


# Case 16: what a parameter may hold.


@pytest.mark.parametrize(
    "value", ["$(touch x)`touch y`; touch z", "two\nlines", "-rf", "../..", "\u202etxt", "a'b\"c\\"]
)
def test_parameter_reaches_the_command_literally(room: Room, value: str) -> None:
    result = room('printf %s "$VALUE" > value', env={"VALUE": value})
    assert result.exit_code == 0
    assert (room.folder / "value").read_bytes() == value.encode()
    assert sorted(path.name for path in room.folder.iterdir()) == ["logs", "value"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"command": "echo \0"}, "the command holds a NUL"),
        ({"command": "echo \ud800"}, "the command cannot be written as UTF-8"),
        ({"command": "x" * 200_000}, "the command is 200,000 bytes long"),
        ({"env": {"A": "\0"}}, "the value of A holds a NUL"),
        ({"env": {"A": "\udcff"}}, "the value of A cannot be written as UTF-8"),
        ({"env": {"A": "x" * 200_000}}, "the value of A is 200,000 bytes"),
        ({"env": {"A=B": "x"}}, "'A=B' cannot be the name"),
        ({"env": {"A\n": "x"}}, "cannot be the name"),
        ({"env": {"BASH_ENV": "x"}}, "cannot set the environment variable BASH_ENV"),
        ({"env": {"OPS_RUN_ID": "x"}}, "cannot set the environment variable OPS_RUN_ID"),
        ({"env": {"PREFECT_API_URL": "x"}}, "cannot set the environment variable PREFECT_API_URL"),
        ({"env": {"A": "x"}, "secrets": {"A": "long enough"}}, "both in env and in secrets: A"),
        ({"secrets": {"TOKEN": "short"}}, "secret TOKEN has fewer than 6"),
        ({"secrets": {"TOKEN": "long enough\0"}}, "the value of TOKEN holds a NUL"),
        ({"timeout": 0}, "timeout_seconds must be"),
        ({"timeout": float("nan")}, "timeout_seconds must be"),
        ({"working_dir": Path("/no/such/folder")}, "the working directory /no/such/folder does not exist"),
        ({"env": {f"A{number}": "x" * 120_000 for number in range(60)}}, "together are too long"),
    ],
)
def test_wrong_request_is_refused_by_name(room: Room, what: dict[str, object], message: str) -> None:
    arguments = {"command": "touch started", **what}
    with pytest.raises(UsageError, match=message) as refused:
        room(**arguments)  # type: ignore[arg-type]  # a table of arguments
    assert "long enough" not in str(refused.value)
    assert not (room.folder / "started").exists()


# Case 18: secrets.


def test_secrets_are_nowhere(room: Room) -> None:
    secrets = {"TOKEN": "tok+en/Ä'5 x", "KEY": "-----BEGIN-----\nfirst line of it\nsecond line of it\n-----END-----\n"}
    command = """
        echo "$TOKEN $KEY"; echo "$TOKEN" >&2
        printf %s "${TOKEN:0:4}"; sleep 0.2; printf '%s\n' "${TOKEN:4}"
        echo "url $URL"; printf %s "$TOKEN" | base64; printf %s "user:$TOKEN" | base64; printf %s "$KEY" | base64
        tr '\\0' ' ' < /proc/$$/cmdline
        for i in $(seq 2000); do echo "$i $TOKEN"; done
        exit 1
    """
    env = {"URL": quote(secrets["TOKEN"])}
    with pytest.raises(ShellFailedError) as raised:
        room(command, env=env, secrets=secrets)
    result = raised.value.result
    everything = "\n".join([str(raised.value), repr(result), *room.lines, result.log_path.read_text()])
    whole = base64.b64encode(secrets["TOKEN"].encode()).decode()
    for hidden in (*secrets.values(), env["URL"], whole, whole[:12], "first line of it", "second line of it"):
        assert hidden not in everything
        assert base64.b64encode(hidden.encode()).decode()[:-4] not in everything
    assert "2000 ***" in everything


# The disk, the caller, and signals.


def test_full_disk_does_not_change_the_outcome(room: Room) -> None:
    result = room("echo done", log_path=Path("/dev/full"))
    assert (result.exit_code, result.stdout, room.lines) == (0, "done\n", ["done"])
    assert result.log_error == f"the log /dev/full is incomplete: {os.strerror(errno.ENOSPC)}"


@needs_root
def test_disk_that_fills_up_does_not_change_the_outcome(room: Room) -> None:
    small = room.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        with pytest.raises(ShellFailedError) as raised:
            room("head -c 1M /dev/zero | tr '\\0' x; echo; echo end; exit 4", log_path=small / "1.log")
        assert raised.value.exit_code == 4
        assert raised.value.result.stdout.endswith("\nend\n")
        assert raised.value.result.log_bytes == (small / "1.log").stat().st_size == 64 * 1024
        assert "No space left on device" in str(raised.value.result.log_error)
    finally:
        subprocess.run(["umount", small], check=True)


def test_log_that_cannot_be_opened_does_not_change_the_outcome(room: Room) -> None:
    (room.folder / "file").touch()
    result = room("echo done", log_path=room.folder / "file" / "1.log")
    assert (result.exit_code, result.log_bytes) == (0, 0)
    assert result.log_error


def test_exception_of_the_caller_kills_the_step_and_goes_on(room: Room) -> None:
    class LoggingBrokeError(BaseException):
        pass

    def break_(line: str) -> None:
        raise LoggingBrokeError(line)

    with pytest.raises(LoggingBrokeError, match="begun"):
        room("echo begun; (sleep 60 &); setsid sleep 60", on_line=break_)
    assert room.alive() == []
    assert (room.folder / "logs" / "1.log").read_text() == "begun\n"


def test_exception_before_the_shell_is_in_our_hands_kills_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal handler that raises does to Popen when the process exists and Popen has not returned."""
    started = []

    class InterruptedPopen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]  # passed on as it came
            started.append(self)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", InterruptedPopen)
        with pytest.raises(KeyboardInterrupt):
            room("sleep 60; exit 9")
    assert started[0].wait(timeout=5) == -signal.SIGTERM
    assert room.alive() == []
    started[0].communicate()


def test_no_handle_no_thread_and_no_zombie_is_left(room: Room) -> None:
    def zombies() -> set[str]:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        return {pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"}

    room("true")
    earlier = zombies()  # this process adopts what other tests orphan
    handles, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208 - counted only
    for command in ("true", "sleep 60 &", "exit 1", "exec 1>&- 2>&-; sleep 0.2"):
        try:
            room(command)
        except StepError as error:
            assert isinstance(error, ShellFailedError)  # noqa: PT017 - three of the four do not raise
    assert len(os.listdir("/proc/self/fd")) <= handles  # noqa: PTH208
    assert threading.active_count() <= threads
    assert zombies() <= earlier
