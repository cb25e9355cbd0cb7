"""What `ops exporter` and `ops alerter` become carries neither Prefect nor the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_by(module: str) -> set[str]:
    """The packages that are loaded with a module, by a Python of its own."""
    code = f"import sys, {module}; print(*(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["exporter.metrics.__main__", "exporter.alerting.__main__"])
def test_process_carries_neither_prefect_nor_the_command_line(module: str) -> None:
    assert loaded_by(module) & {"prefect", "typer", "rich", "cli"} == set()


def test_exporter_carries_nothing_that_only_the_alerter_needs() -> None:
    assert loaded_by("exporter.metrics.__main__") & {"apprise", "sqlmodel"} == set()
