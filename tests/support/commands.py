"""`ops` commands, each in a process forked from one that has loaded everything: a new Python takes 2.5 s of CPU.

What a command is given is what a process of its own would have: arguments, environment, working directory, an empty
standard input. The process that is forked from never runs a command itself, and ends when its tests do.
"""

from __future__ import annotations

import array
import atexit
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).parents[2]
_LONGEST_REQUEST = 200_000


@dataclass(frozen=True)
class Answer:
    """What a command said, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    def refused(self, code: int) -> str:
        """The one line with which it refused. Fails when it said more, or ended otherwise."""
        assert self.code == code, self
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("ops: "), self
        assert self.out == "", self
        return lines[0]

    def fine(self) -> str:
        """Its output. Fails when it did not end with 0."""
        assert self.code == 0, self
        assert "Traceback" not in self.out + self.err, self
        return self.out


def run_ops(*arguments: str, env: Mapping[str, str], cwd: Path, timeout: float = 180) -> Answer:
    """Run `ops` to its end. Raises TimeoutError, and kills it, when that takes longer than `timeout` seconds."""
    began = time.monotonic()
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with theirs:
            request = json.dumps({"arguments": arguments, "env": dict(env), "cwd": str(cwd)}).encode()
            assert len(request) < _LONGEST_REQUEST, "the environment is too long for one message"
            socket.send_fds(_server(), [request], [theirs.fileno(), out.fileno(), err.fileno()])
        ours.settimeout(timeout)
        pid, code = 0, None
        try:
            pid = int(ours.recv(64).decode() or 0)
            code = ours.recv(64)
        except TimeoutError:
            if pid:
                os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"`ops {' '.join(arguments)}` did not end in {timeout:g} s") from None
        assert code, "the process that commands are forked from is gone"
        out.seek(0)
        err.seek(0)
        said = out.read().decode(), err.read().decode()
    return Answer(int(code), *said, time.monotonic() - began)


def run_ops_anew(
    *arguments: str, env: Mapping[str, str], cwd: Path, timeout: float = 180, before: Sequence[str] = ()
) -> Answer:
    """The same in a new Python, as a person's shell starts it. `before` are words before the command."""
    began = time.monotonic()
    done = subprocess.run(
        [*before, sys.executable, "-m", "cli", *arguments],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


@functools.cache
def _server() -> socket.socket:
    """The line to the process that commands are forked from; it ends when the line is closed, with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # what is read when a module is loaded must be what a command has: rich would keep a width that it found
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")}
    with theirs, tempfile.TemporaryDirectory(prefix="commands", ignore_cleanup_errors=True) as home:
        argv = [sys.executable, "-m", "tests.support.commands", str(theirs.fileno())]
        env = clean | {"PREFECT_HOME": home}
        subprocess.Popen(argv, cwd=REPOSITORY, env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        ours.settimeout(120)
        assert ours.recv(8) == b"ready", "the process that commands are forked from did not start"
    return ours


def _serve(line: socket.socket) -> None:
    """Fork for each request until the line is closed."""
    import importlib

    from cli.main import FILES
    from opsdb.kinds.kinds import registered_entrypoints

    for module in (
        "cli.main",
        *FILES,
        "prefect",
        "prefect.client.orchestration",
        "prefect.deployments",
        "prefect_shell",
    ):
        importlib.import_module(module)
    for module in (
        "deployments.server.deploy",
        "deployments.server.startable",
        "blocks.backup_target",
        "flows.template.catalogue",
    ):
        importlib.import_module(module)
    for entrypoint in registered_entrypoints(REPOSITORY / "prefect.yaml"):
        importlib.import_module(entrypoint.rpartition(".")[0])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for commands
    line.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(line, _LONGEST_REQUEST, 3)
        if not message:
            return
        if os.fork() == 0:
            line.close()
            _attend(message, *descriptors)
        for descriptor in array.array("i", descriptors):
            os.close(descriptor)


def _attend(message: bytes, answer: int, out: int, err: int) -> NoReturn:
    """Fork the command, and say its pid and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=answer) as told:
        pid = os.fork()
        if pid == 0:
            os.dup2(out, 1)
            os.dup2(err, 2)
            told.close()
            _execute(**json.loads(message))
        told.send(f"{pid}".encode())
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        told.send(f"{code}".encode())
    os._exit(0)


def _execute(arguments: list[str], env: dict[str, str], cwd: str) -> NoReturn:
    """Be `ops` with these arguments."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    random.seed()
    sys.argv = ["ops", *arguments]
    from prefect.context import refresh_global_settings_context

    from cli.main import main
    from deployments.server import access
    from opsdb.settings import Settings

    use = access.use

    def use_and_refresh(settings: Settings) -> bool:
        try:
            return use(settings)
        finally:
            refresh_global_settings_context()  # a new Python would import Prefect only now

    vars(access)["use"] = use_and_refresh  # in this process alone
    code: object = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # as the interpreter would at its end
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]  # and then what else it does at its end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
