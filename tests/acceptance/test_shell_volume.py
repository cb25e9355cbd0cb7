"""Case 12: 1 GiB on both outputs interleaved, and one line of 100 MiB, in constant memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MIB = 1024 * 1024

# In a process of its own, so that the peak of its memory is the peak of this one step.
SCRIPT = """
    import json, re, sys
    from pathlib import Path
    from flows.shell.run import run_shell
    def peak():
        # Not ru_maxrss: that one still counts the memory of the process that started this one.
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    def run(command, name):
        lines = []
        secrets = {"TOKEN": "correct-horse-battery", "PASSWORD": "kW9+/l'd o"}
        result = run_shell(command, timeout_seconds=100, env={}, secrets=secrets, run_id="volume", step=name,
                           log_path=Path(sys.argv[1]) / name, working_dir=Path("/"), on_line=lines.append,
                           grace_seconds=5)
        return lines, result
    run("echo warm", "warm")
    before = peak()
    lines, result = run(sys.argv[2], "volume")
    print(json.dumps({
        "grown": peak() - before, "lines": len(lines), "longest": max(map(len, lines)),
        "last_is_after": lines[-1] == "after",
        "log_bytes": result.log_bytes, "log_truncated": result.log_truncated, "seconds": result.duration_seconds,
        "tails": len(result.stdout) + len(result.stderr),
    }))
"""


def measure(command: str, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), command], stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    print(figures)
    return figures


@pytest.mark.parametrize(
    "command",
    [
        "set +o pipefail; yes 0123456789abcde | head -c 512M & yes x | head -c 512M >&2 & wait -n; wait -n",
        "head -c 1G /dev/zero | tee /dev/stderr",
    ],
    ids=["short lines", "NUL bytes"],
)
def test_gibibyte_on_both_outputs_is_read_in_constant_memory(tmp_path: Path, command: str) -> None:
    figures = measure(command, tmp_path)
    assert figures["grown"] < 50 * MIB
    assert figures["log_truncated"]
    assert figures["log_bytes"] == (tmp_path / "volume").stat().st_size < 65 * MIB
    assert figures["lines"] <= 500
    assert figures["tails"] <= 128 * 1024


def test_line_of_a_hundred_mebibytes_is_cut(tmp_path: Path) -> None:
    figures = measure("head -c 100M /dev/zero | tr '\\0' x; echo; echo after", tmp_path)
    assert figures["grown"] < 50 * MIB
    assert figures["longest"] < 4200
    assert figures["last_is_after"]
    assert figures["lines"] == 2
