"""The process of the exporter."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.main import app
from exporter.credentials import Credentials


@pytest.mark.parametrize("module", ["exporter.__main__", "cli.exporter"])
def test_exporter_imports_nothing_of_prefect(module: str) -> None:
    code = f"import sys, {module}; print(any(name.split('.')[0] == 'prefect' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_exporter_does_not_carry_the_command_line() -> None:
    code = "import sys, exporter.__main__; print({'typer', 'rich', 'cli.main'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_hash_password_prints_what_the_setting_takes() -> None:
    result = CliRunner().invoke(app, ["exporter", "--hash-password", "prom"], input="geheim\n")
    assert result.exit_code == 0
    assert Credentials(result.output.strip()).accept("Basic cHJvbTpnZWhlaW0=")
