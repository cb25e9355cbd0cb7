"""A stand-in for Docker: a client on PATH, and a daemon that knows one compose file, one service and its containers.

As with the real one, a program in a container is not a child of the client: it outlives a client that is killed, and
its environment is the container's and not the client's. A container has a name that no other has; `run` begins with the
image's entrypoint and `exec` does not. It checks what it is asked and refuses what it does not know. The containers
have no root of their own: their programs see the host's files and processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLIENT = """#!{python} -I
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as daemon:
    daemon.connect({address!r})
    words = sys.argv[1:]
    given = sys.stdin.read() if "exec" in words or "run" in words else ""
    daemon.sendall(json.dumps({{"words": words, "stdin": given, "folder": os.getcwd()}}).encode() + b"\\n")
    for line in daemon.makefile("r"):
        said = json.loads(line)
        if "exit" in said:
            sys.exit(said["exit"])
        out = sys.stderr if said["error"] else sys.stdout
        out.write(said["text"])
        out.flush()
sys.exit("the daemon went away")
"""
ENTRYPOINT = {"ENTRYPOINT": "says where the database is"}
"""What only the entrypoint of the service's image gives its command."""


@dataclass
class Container:
    """A container of the service, or one beside it."""

    process: subprocess.Popen[str]
    labels: dict[str, str] = field(default_factory=dict)
    removed_at_end: bool = False


@dataclass
class Docker:
    """The daemon. `calls` holds the words of each request that was in order."""

    compose_file: str
    service: str
    programs: Path
    """The folder of the container's own programs."""
    environment: dict[str, str] = field(default_factory=dict)
    """The container's own environment."""
    command: list[str] | None = None
    """What the service runs, if anything."""
    stopped: bool = False
    """Whether the service does not run."""
    refuses: str = ""
    """A verb of Docker Compose that fails."""
    missing_after: int | None = None
    """After so many times that `run` was asked for, the image is gone, if ever."""
    calls: list[list[str]] = field(default_factory=list)
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, request: dict[str, Any], say: Any) -> int:
        """Do what is asked. Returns the exit code."""
        words, folder = request["words"], Path(request["folder"])

        def tell(text: str, *, error: bool = False) -> None:
            with contextlib.suppress(OSError):  # the client is gone: the program goes on
                say({"error": error, "text": text})

        try:
            if words[:1] == ["compose"]:
                return self._compose(words, folder, request["stdin"], tell)
            self.calls.append(words)
            return self._container(words, tell)
        except ValueError as error:
            tell(f"docker: {error}\n", error=True)
            return 125

    def start_service(self) -> None:
        """Let the service run, in a container of its own."""
        self.stopped = False
        if self.command and self.service not in self.containers:
            self._start(self.service, Container(self._popen(self.command, ENTRYPOINT)))

    def stop_service(self) -> None:
        """Stop it."""
        self.stopped = True
        self._stop(self.service, 1)
        self.containers.pop(self.service, None)

    def run_beside(self, name: str, command: list[str]) -> subprocess.Popen[str]:
        """A container of that name that nobody of the room started, or that its client left."""
        process = self._popen(command, ENTRYPOINT)
        self._start(name, Container(process))
        return process

    def _compose(self, words: list[str], folder: Path, given: str, tell: Any) -> int:
        if words[1:2] != ["-f"]:
            raise ValueError(f"want compose -f FILE, not {words}")
        if folder / words[2] != folder / self.compose_file or not (folder / words[2]).is_file():
            raise ValueError(f"open {folder / words[2]}: no such file or directory")
        verb, *rest = words[3:]
        if verb == self.refuses:
            raise ValueError(f"Error response from daemon: {verb} is refused")
        match verb, rest:
            case "config", ["--services"]:
                tell(f"db\n{self.service}\n")
            case "ps", ["--status", "running", "--services"]:
                tell("db\n" if self.stopped else f"db\n{self.service}\n")
            case "stop", [self.service]:
                self.stop_service()
            case "up", ["--detach", "--no-deps", self.service]:
                self.start_service()
            case "exec", ["-T", *others]:
                environment, others = _variables(others)
                self._is_service(others)
                self.calls.append(words)
                return self._followed(self._popen(others[1:], environment, given), tell)
            case "run", ["--rm", "-T", "--no-deps", "--name", name, "--label", label, *others]:
                environment, others = _variables(others)
                self._is_service(others)
                if self.missing_after is not None and self._count("run") >= self.missing_after:
                    raise ValueError("Error response from daemon: pull access denied for odoo")
                with self.lock:
                    if name in self.containers:
                        raise ValueError(f'Error response from daemon: Conflict. The container name "/{name}" is taken')
                    process = self._popen(others[1:], ENTRYPOINT | environment, given)
                    self._start(name, Container(process, dict([label.split("=", 1)]), removed_at_end=True))
                self.calls.append(words)
                return self._followed(process, tell)
            case _:
                raise ValueError(f"no such command or service: {verb} {rest}")
        self.calls.append(words)
        return 0

    def _container(self, words: list[str], tell: Any) -> int:
        match words:
            case ["container", "inspect", *form, name] if form[:1] in ([], ["--format"]):
                if (found := self.containers.get(name)) is None:
                    tell(f"Error response from daemon: No such container: {name}\n", error=True)
                    return 1
                running = found.process.poll() is None
                state, label = ("running" if running else "exited"), found.labels.get("ops.run", "")
                form = form[1:] or ["[]"]
                tell(form[0].replace("{{.State.Status}}", state).replace('{{index .Config.Labels "ops.run"}}', label))
            case ["stop", "-t", seconds, name]:
                self._stop(name, float(seconds))
            case ["rm", "--force", name]:
                self._stop(name, 0)
                self.containers.pop(name, None)
            case _:
                raise ValueError(f"unknown command: {words}")
        return 0

    def _count(self, verb: str) -> int:
        return sum(call[0] == "compose" and call[3] == verb for call in self.calls)

    def _is_service(self, words: list[str]) -> None:
        if words[0] != self.service:
            raise ValueError(f"no such service: {words[0]}")

    def _popen(self, command: list[str], environment: dict[str, str], given: str = "") -> subprocess.Popen[str]:
        path = f"{self.programs}:/usr/bin:/bin"
        try:
            program = _which(command[0], path)
        except FileNotFoundError:
            raise ValueError(f"exec: {command[0]}: not found") from None
        process = subprocess.Popen(
            command,
            env={"PATH": path, **self.environment, **environment},
            executable=program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        threading.Thread(target=_give, args=(process, given), daemon=True).start()
        return process

    def _start(self, name: str, container: Container) -> None:
        self.containers[name] = container

        def see_off() -> None:
            container.process.wait()
            with self.lock:
                if container.removed_at_end and self.containers.get(name) is container:
                    del self.containers[name]

        threading.Thread(target=see_off, daemon=True).start()

    def _stop(self, name: str, seconds: float) -> None:
        if (found := self.containers.get(name)) is None:
            return
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5)):
            if found.process.poll() is None and patience:
                found.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    found.process.wait(patience)

    def _followed(self, process: subprocess.Popen[str], tell: Any) -> int:
        assert process.stdout is not None
        for line in process.stdout:
            tell(line)
        return process.wait()


@contextmanager
def docker(folder: Path, *, of: type[Docker] = Docker, **facts: Any) -> Iterator[Docker]:
    """A daemon for the length of a test, and its client as `docker` in `folder`."""
    daemon = of(**facts)
    address = str(folder / "docker.sock")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            def say(what: dict[str, Any]) -> None:
                self.wfile.write(json.dumps(what).encode() + b"\n")

            code = daemon.answer(json.loads(self.rfile.readline()), say)
            with contextlib.suppress(OSError):
                say({"exit": code if code >= 0 else 128 - code})

    client = folder / "docker"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    with socketserver.ThreadingUnixStreamServer(address, Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        if not daemon.stopped:
            daemon.start_service()
        try:
            yield daemon
        finally:
            server.shutdown()
            for process in daemon.running:
                if process.poll() is None:
                    os.killpg(process.pid, 9)
                    process.wait(5)


def _variables(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The variables of the first words, and the others."""
    found = {}
    while words[0] == "-e":
        name, _, value = words[1].partition("=")
        found[name], words = value, words[2:]
    return found, words


def _give(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(text)
        process.stdin.close()


def _which(program: str, path: str) -> str:
    for folder in path.split(":"):
        if os.access(f"{folder}/{program}", os.X_OK):
            return f"{folder}/{program}"
    raise FileNotFoundError(program)
