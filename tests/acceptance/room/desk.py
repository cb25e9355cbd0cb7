"""The room as a person at a terminal has it: commands, what they print, and the processes behind them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from tests.support.children import free_port
from tests.support.commands import Answer, run_ops, run_ops_anew

START_SECONDS = 600.0  # on a machine with other work to do
T = TypeVar("T")


@dataclass(frozen=True)
class Desk:
    """One OPS_HOME with ports of its own. `settings` are further OPS_* variables."""

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, int, int] = field(default_factory=lambda: (free_port(), free_port(), free_port()))

    @property
    def env(self) -> dict[str, str]:
        """The environment of its commands: nothing that another room or another Prefect left in ours."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPS_", "PREFECT_", "PG"))}
        names = ("OPS_PREFECT_PORT", "OPS_HEALTH_PORT", "OPS_EXPORTER_PORT")
        ports = dict(zip(names, map(str, self.ports), strict=True))
        return {**clean, "COLUMNS": "80", "OPS_HOME": str(self.home), **ports, **self.settings}

    def command(self, *arguments: str) -> list[str]:
        """`ops` with these arguments."""
        return [sys.executable, "-m", "cli", *arguments]

    def ops(self, *arguments: str, timeout: float = 180, env: Mapping[str, str] | None = None) -> Answer:
        """Run a command to its end. `env` is added to its environment."""
        run = run_ops_anew if "up" in arguments else run_ops  # what `up` starts is to have a parent like any other
        return run(*arguments, env={**self.env, **(env or {})}, cwd=self.home.parent, timeout=timeout)

    def json(self, *arguments: str) -> Any:
        """The document that a command prints with `--json`."""
        return json.loads(self.ops(*arguments, "--json").fine())

    def run(self, *arguments: str) -> dict[str, Any]:
        """Start a run and wait for its end, whatever it is."""
        answer = self.ops("run", *arguments, "--wait", "--json")
        assert answer.code in (0, 1), answer
        document: dict[str, Any] = json.loads(answer.out)
        return document

    def start(self) -> Answer:
        """Start the room in the background."""
        answer = self.ops("up", "--detach", timeout=START_SECONDS)
        answer.fine()
        return answer

    def stop(self) -> None:
        """Stop the room; nothing of it may be left, nor of its runs."""
        listed = self.ops("runs", "--limit", "1000", "--json")
        runs = [run["id"] for run in json.loads(listed.out)] if listed.code == 0 else []
        self.ops("down", timeout=120).fine()
        assert self.processes() == {}
        assert [left for run_id in runs if (left := processes_with(f"OPS_RUN_ID={run_id}"))] == []

    def pid_of(self, part: str) -> int | None:
        """The process of a part of the room; None while there is none."""
        answer = self.ops("status", "--json")
        parts = {each["name"]: each for each in json.loads(answer.out)["parts"]}
        pid: int | None = parts[part]["pid"]
        return pid

    def processes(self) -> dict[int, str]:
        """All processes with this OPS_HOME in their environment, arguments or working directory: pid and arguments."""
        mark = os.fsencode(self.home)
        found = {}
        for pid, arguments, environment, folder in _processes():
            if mark in arguments or b"OPS_HOME=" + mark in environment.split(b"\0") or folder.startswith(mark):
                found[pid] = arguments.replace(b"\0", b" ").decode(errors="replace")
        return found

    def database(self, name: str) -> psycopg.Connection[Any]:
        """A superuser's connection to the embedded PostgreSQL."""
        return psycopg.connect(self.url(name), autocommit=True)

    def url(self, database: str) -> str:
        """Where a database of the embedded PostgreSQL is reached."""
        return f"postgresql://postgres@/{database}?host={self.home / 'postgres' / 'socket'}"


def processes_with(text: str) -> dict[int, str]:
    """All processes with a text in their arguments or environment."""
    mark = text.encode()
    return {
        pid: arguments.replace(b"\0", b" ").decode(errors="replace")
        for pid, arguments, environment, _ in _processes()
        if mark in arguments or mark in environment
    }


def _processes() -> list[tuple[int, bytes, bytes, bytes]]:
    """Every living process but this one: pid, arguments, environment, working directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
            if state not in (b"Z", b"X"):
                folder = os.fsencode((entry / "cwd").readlink())
                texts = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                found.append((int(entry.name), *texts, folder))
        except OSError:  # it ended while we looked
            continue
    return found
