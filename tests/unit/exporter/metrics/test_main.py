"""The process of the exporter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from exporter.metrics.__main__ import _kinds
from exporter.metrics.credentials import Credentials
from opsdb.settings import Settings


@pytest.mark.parametrize("module", ["exporter.metrics.__main__", "cli.parts"])
def test_exporter_imports_nothing_of_prefect(module: str) -> None:
    code = f"import sys, {module}; print(any(name.split('.')[0] == 'prefect' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_exporter_does_not_carry_the_command_line() -> None:
    code = "import sys, exporter.metrics.__main__; print({'typer', 'rich', 'cli.main'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_hash_password_prints_what_the_setting_takes() -> None:
    result = CliRunner().invoke(app, ["exporter", "--hash-password", "prom"], input="geheim\n")
    assert result.exit_code == 0
    assert Credentials(result.output.strip()).accept("Basic cHJvbTpnZWhlaW0=")


def test_series_begin_with_the_kinds_of_prefect_yaml_and_of_templates(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("deployments:\n  - {entrypoint: flows.one.one}\n")
    (tmp_path / "two.json").write_text('{"kind": "two"}')
    (tmp_path / "broken.json").write_text("{")
    settings = Settings(templates=tmp_path, prefect_yaml=tmp_path / "prefect.yaml")
    assert _kinds(settings) == ("disk_space", "one", "two")
    assert _kinds(Settings(prefect_yaml=tmp_path / "none.yaml")) == ()
