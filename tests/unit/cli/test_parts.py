"""The commands of the parts of the room."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.main import make_app
from exporter.metrics.credentials import Credentials


def test_commands_of_parts_import_nothing_of_prefect() -> None:
    code = "import sys, cli.parts; print(any(name.split('.')[0] == 'prefect' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(("command", "module"), [("exporter", "exporter.metrics"), ("alerter", "exporter.alerting")])
def test_exporter_and_alerter_run_without_the_weight_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, command: str, module: str
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, argv: became.append(argv))
    CliRunner().invoke(make_app(), [command])
    assert became == [[sys.executable, "-m", module]]


def test_hash_password_prints_what_the_setting_takes() -> None:
    result = CliRunner().invoke(make_app(), ["exporter", "--hash-password", "prom"], input="geheim\n")
    assert result.exit_code == 0
    assert Credentials(result.output.strip()).check("Basic cHJvbTpnZWhlaW0=", client="192.0.2.1").right
