"""Commands run as the steps of one run, for the tests of what runs them."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path

from flows.shell.output import OutputLimits
from flows.shell.run import ShellResult, run_shell
from opsdb.processes.find import find_processes

# Two generations that ignore TERM: the shell, and a child of it.
IGNORING = "trap '' TERM; (while :; do sleep 1; done) & while :; do sleep 1; done"


class Room:
    """Runs commands as steps of one run and remembers the lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_id = str(uuid.uuid4())
        self.lines: list[str] = []
        self._steps = itertools.count(1)

    def __call__(
        self,
        command: str,
        *,
        timeout: float = 30,
        env: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        log_path: Path | None = None,
        working_dir: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        limits: OutputLimits | None = None,
        grace: float = 5.0,
    ) -> ShellResult:
        step = str(next(self._steps))
        return run_shell(
            command,
            timeout_seconds=timeout,
            env=env or {},
            secrets=secrets or {},
            run_id=self.run_id,
            step=step,
            log_path=log_path or self.folder / "logs" / f"{step}.log",
            working_dir=working_dir or self.folder,
            on_line=on_line or self.lines.append,
            grace_seconds=grace,
            limits=limits or OutputLimits(),
        )

    def alive(self) -> list[int]:
        return [process.pid for process in find_processes(run_id=self.run_id)]


def python(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments], stdout=subprocess.PIPE, timeout=500, check=True
    )
    return done.stdout.decode()
