"""`python -m benchmarks.start --before CHECKOUT`: starts of a room that was there before, by two versions in turn.

Both run in this `.venv`, so their dependencies must be the same. It prints the table for `benchmarks/start.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from tests.support.children import free_port

HERE = Path(__file__).parents[1]


class Version:
    """A checkout with a room of its own."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self.checkout = checkout
        ports = {f"OPS_{name}_PORT": str(free_port()) for name in ("PREFECT", "HEALTH", "EXPORTER")}
        self._env = os.environ | ports | {"OPS_HOME": str(home), "PYTHONPATH": str(checkout)}
        self._home = home

    def ops(self, *arguments: str) -> float:
        """Run a command. Returns how long it took, in seconds."""
        began = time.monotonic()
        command = [sys.executable, "-m", "cli", *arguments]
        subprocess.run(command, cwd=self.checkout, env=self._env, check=True, capture_output=True)
        return time.monotonic() - began

    def cpu_seconds(self) -> float:
        """What the supervisor and its parts used so far, those that ended included."""
        supervisor = psutil.Process(json.loads((self._home / "room.json").read_text())["pid"])
        times = [one.cpu_times() for one in (supervisor, *supervisor.children(recursive=True))]
        own = sum(one.user + one.system for one in times)
        return own + times[0].children_user + times[0].children_system

    def measure(self) -> dict[str, float]:
        """One start, and what follows when it is ready: seconds."""
        measured = {"`ops up --detach`": self.ops("up", "--detach"), "its CPU time": self.cpu_seconds()}
        measured["`ops deploy`, nothing to do"] = self.ops("deploy")
        self.ops("down")
        return measured


def table(before: Sequence[dict[str, float]], after: Sequence[dict[str, float]]) -> str:
    """The medians side by side, in Markdown."""
    lines = ["| | before | after | ratio |", "|---|---|---|---|"]
    for name in before[0]:
        old, new = (median(one[name] for one in each) for each in (before, after))
        lines.append(f"| {name} | {old:.1f} s | {new:.1f} s | {new / old:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    with TemporaryDirectory(dir="/tmp", prefix="st") as folder:
        Path(folder).chmod(0o711)
        versions = [Version(given.before.absolute(), Path(folder) / "a"), Version(HERE, Path(folder) / "b")]
        for version in versions:  # the first start makes the databases, the second notes what it found
            for _ in range(2):
                version.measure()
        found: list[list[dict[str, float]]] = [[], []]
        for _ in range(given.times):
            for version, measured in zip(versions, found, strict=True):
                measured.append(version.measure())
                print(version.checkout.name, measured[-1], os.getloadavg(), flush=True)
    print(table(*found))


if __name__ == "__main__":
    main()
