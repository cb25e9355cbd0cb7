"""A stand-in for Docker: a client on PATH, and a daemon that knows one compose file, one service and its container.

As with the real one, a program in the container is not a child of the client: it outlives a client that is killed, and
its environment is the container's and not the client's. It checks what it is asked and refuses what it does not know.
The container has no root of its own: its programs see the host's files and processes.
"""

from __future__ import annotations

import contextlib
import json
import os
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
    given = sys.stdin.read() if "exec" in words else ""
    daemon.sendall(json.dumps({{"words": words, "stdin": given, "folder": os.getcwd()}}).encode() + b"\\n")
    for line in daemon.makefile("r"):
        said = json.loads(line)
        if "exit" in said:
            sys.exit(said["exit"])
        (sys.stderr if said["error"] else sys.stdout).write(said["text"])
sys.exit("the daemon went away")
"""


@dataclass
class Docker:
    """The daemon. `calls` holds the words of each request that was in order."""

    compose_file: str
    service: str
    programs: Path
    """The folder of the container's own programs."""
    environment: dict[str, str] = field(default_factory=dict)
    """The container's own environment."""
    stopped: bool = False
    """Whether the service does not run."""
    calls: list[list[str]] = field(default_factory=list)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def answer(self, request: dict[str, Any], say: Any) -> int:
        """Do what is asked. Returns the exit code."""
        try:
            command, environment = self._understood(request["words"], Path(request["folder"]))
        except ValueError as error:
            say({"error": True, "text": f"docker: {error}\n"})
            return 125
        self.calls.append(request["words"])
        if command is None:
            if request["words"][-1] == "--services":
                stopped = "ps" in request["words"] and self.stopped
                say({"error": False, "text": "db\n" if stopped else f"db\n{self.service}\n"})
            return 0
        path = f"{self.programs}:/usr/bin:/bin"
        try:
            process = subprocess.Popen(
                command,
                env={"PATH": path, **self.environment, **environment},
                executable=_which(command[0], path),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        except FileNotFoundError:
            say({"error": True, "text": f"exec: {command[0]}: not found\n"})
            return 127
        self.running.append(process)
        threading.Thread(target=_give, args=(process, request["stdin"]), daemon=True).start()
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(OSError):  # the client is gone: the program goes on
                say({"error": False, "text": line})
        return process.wait()

    def _understood(self, words: list[str], folder: Path) -> tuple[list[str] | None, dict[str, str]]:
        if words[:2] != ["compose", "-f"]:
            raise ValueError(f"want compose -f FILE, not {words}")
        if folder / words[2] != folder / self.compose_file or not (folder / words[2]).is_file():
            raise ValueError(f"open {folder / words[2]}: no such file or directory")
        verb, *rest = words[3:]
        if verb == "restart":
            if rest != [self.service]:
                raise ValueError(f"no such service: {rest}")
            return None, {}
        if verb == "config" and rest == ["--services"]:
            return None, {}
        if verb == "ps" and rest == ["--status", "running", "--services"]:
            return None, {}
        if verb != "exec" or rest[0] != "-T":
            raise ValueError("the input device is not a TTY")
        rest, environment = rest[1:], {}
        while rest[0] == "-e":
            name, _, value = rest[1].partition("=")
            environment[name], rest = value, rest[2:]
        if rest[0] != self.service:
            raise ValueError(f'service "{rest[0]}" is not running')
        return rest[1:], environment


@contextmanager
def docker(folder: Path, **facts: Any) -> Iterator[Docker]:
    """A daemon for the length of a test, and its client as `docker` in `folder`."""
    daemon = Docker(**facts)
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
        try:
            yield daemon
        finally:
            server.shutdown()
            for process in daemon.running:
                if process.poll() is None:
                    os.killpg(process.pid, 9)
                    process.wait(5)


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
