"""In Pythons of their own: a limit that was lowered is not raised again."""

from __future__ import annotations

import subprocess
import sys

import pytest

ALLOW = "from opsdb.open_files import allow_open_files; print(allow_open_files())"


@pytest.mark.parametrize(
    ("soft", "hard", "said"),
    [
        (64, 5000, "4096"),
        (64, 700, "700"),
        (4500, 5000, "4500"),
        (64, 64, "at most 64 files may be open here, the room needs 512"),
    ],
)
def test_soft_limit_is_raised_as_far_as_it_goes(soft: int, hard: int, said: str) -> None:
    limited = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    done = subprocess.run(
        ["/bin/bash", "-c", limited, "bash", sys.executable, "-c", ALLOW], capture_output=True, text=True, check=False
    )
    assert said in done.stdout + done.stderr
