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


def test_own_runbook_that_cannot_be_loaded_is_named_in_a_line_and_leaves_the_others(tmp_path: Path) -> None:
    runbook = "from flows.engine.runbook import runbook\n@runbook(deadline_seconds=9)\ndef {name}(): ...\n"
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "bad.py").write_text(f"1 / 0\n{runbook.format(name='bad')}")
    (folder / "good.py").write_text(runbook.format(name="good"))
    done = subprocess.run(
        [sys.executable, "-c", "import deployments.worker.preload, sys; print('flows.own.files.good' in sys.modules)"],
        env={**os.environ, "OPS_HOME": str(tmp_path / ".ops"), "OPS_RUNBOOKS": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
    assert f"runbook bad could not be loaded: {folder}/bad.py:1: ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" not in done.stderr
