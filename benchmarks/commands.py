"""`python -m benchmarks.commands --before CHECKOUT`: what it takes to start a command, by two versions in turn.

Both run in this `.venv`, against one room that this version starts. Measured is the CPU time of the command's process,
user and system, since on a busy machine it says more than the clock. It prints the table for `benchmarks/start.md`.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.support.children import free_port

HERE = Path(__file__).parents[1]
BARE = ("-c", "pass")
COMMANDS = (("--help",), ("runs", "--help"), ("runs",), ("status",), ("doctor",))


def cpu_seconds(arguments: tuple[str, ...], *, checkout: Path, env: dict[str, str]) -> float:
    """What a Python process used until it ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=checkout, env=env, check=False, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(found: dict[str, tuple[list[float], list[float]]], *, bare: list[float]) -> str:
    """The medians side by side, in Markdown, and as multiples of a bare interpreter's."""
    python = median(bare)
    lines = ["| | before | after | ratio | of a bare interpreter |", "|---|---|---|---|---|"]
    for name, (old, new) in found.items():
        before, after = median(old), median(new)
        row = f"| `ops {name}` | {before:.2f} s | {after:.2f} s | {after / before:.2f} | {after / python:.0f} times |"
        lines.append(row)
    return "\n".join([*lines, f"| a bare interpreter | | {python:.3f} s | | |"])


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with TemporaryDirectory(dir="/tmp", prefix="st") as folder:
        Path(folder).chmod(0o711)
        ports = {f"OPS_{name}_PORT": str(free_port()) for name in ("PREFECT", "HEALTH", "EXPORTER")}
        env = os.environ | ports | {"OPS_HOME": str(Path(folder) / "home")}
        versions = {checkout: env | {"PYTHONPATH": str(checkout)} for checkout in (given.before.absolute(), HERE)}
        ops = [sys.executable, "-m", "cli"]
        subprocess.run([*ops, "up", "--detach"], cwd=HERE, env=versions[HERE], check=True, capture_output=True)
        try:
            found: dict[str, tuple[list[float], list[float]]] = {" ".join(one): ([], []) for one in COMMANDS}
            bare = []
            for _ in range(given.times):
                bare.append(cpu_seconds(BARE, checkout=HERE, env=env))
                for command in COMMANDS:
                    for (checkout, mine), into in zip(versions.items(), found[" ".join(command)], strict=True):
                        into.append(cpu_seconds(("-m", "cli", *command), checkout=checkout, env=mine))
        finally:
            subprocess.run([*ops, "down"], cwd=HERE, env=versions[HERE], check=False, capture_output=True)
    print(table(found, bare=bare))


if __name__ == "__main__":
    main()
