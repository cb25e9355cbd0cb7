"""What is loaded ahead of all runs, in a process of its own: without it no lane starts any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("deployments: [{entrypoint: leaves_at_once.one}]", "leaves_at_once could not be loaded"),
        ("deployments: [", "prefect.yaml cannot be read"),
    ],
)
def test_what_cannot_be_loaded_is_named_and_ends_nothing(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(3)")
    (tmp_path / "prefect.yaml").write_text(content)
    environment = {
        **os.environ,
        "OPS_HOME": str(tmp_path),
        "OPS_PREFECT_YAML": str(tmp_path / "prefect.yaml"),
    }
    done = subprocess.run(
        [sys.executable, "-c", "import deployments.worker.preload"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
