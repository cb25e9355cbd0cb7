"""`python -m benchmarks.memory`: the memory of each part of a room, when it is ready and after some runs.

It prints the table for `benchmarks/memory.md`. Memory is PSS: a page that several processes share is divided.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.process_tree import pss_bytes
from deployments.room.report import read_report
from tests.support.children import free_port

HERE = Path(__file__).parents[1]
RUNBOOK: dict[str, Any] = {"kind": "look", "steps": [{"name": "look", "command": "uptime", "timeout": 30}]}


def parts_mb(home: Path) -> dict[str, float]:
    """The memory of each part of a running room with its children, and of its supervisor alone, in MB."""
    report = read_report(home)
    if report is None:
        raise SystemExit(f"no room runs in {home}")
    found = {part.name: pss_bytes(part.pid) / 1e6 for part in report.parts if part.pid}
    return found | {"supervisor": pss_bytes(report.pid) / 1e6 - sum(found.values())}


def main() -> None:
    """Measure a room of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=40)
    given = parser.parse_args()
    with TemporaryDirectory(dir="/tmp", prefix="mem") as folder:
        Path(folder).chmod(0o711)
        home, templates = Path(folder) / "home", Path(folder) / "templates"
        templates.mkdir()
        (templates / "look.json").write_text(json.dumps(RUNBOOK))
        ports = {f"OPS_{name}_PORT": str(free_port()) for name in ("PREFECT", "HEALTH", "EXPORTER")}

        def ops(*arguments: str) -> str:
            command = [sys.executable, "-m", "cli", *arguments]
            env = os.environ | ports | {"OPS_HOME": str(home), "OPS_TEMPLATES": str(templates)}
            return subprocess.run(command, cwd=HERE, env=env, check=True, capture_output=True, text=True).stdout

        ops("up", "--detach")
        try:
            ready = parts_mb(home)
            for _ in range(given.runs):
                ops("run", RUNBOOK["kind"], "--wait")
            after = parts_mb(home)
        finally:
            ops("down")
    print(f"| part | when ready | after {given.runs} runs |\n|---|---|---|")
    for name, mb in sorted(after.items(), key=lambda one: -one[1]):
        print(f"| {name} | {ready[name]:.0f} MB | {mb:.0f} MB |")
    print(f"| all | {sum(ready.values()):.0f} MB | {sum(after.values()):.0f} MB |")


if __name__ == "__main__":
    main()
