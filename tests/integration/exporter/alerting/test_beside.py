"""The exporter and its alerter live and die together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opsdb.settings import Settings
from tests.support.children import free_port
from tests.support.waiting import wait_for

REPOSITORY = Path(__file__).parents[4]


def start(settings: Settings, log: Path, **variables: str) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPS_", "PREFECT_"))}
    env = clean | {
        "OPS_HOME": str(settings.home),
        "OPS_DATABASE_URL": settings.ops_url,
        "OPS_EXPORTER_PORT": str(free_port()),
        **variables,
    }
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", "exporter"], env=env, cwd=REPOSITORY, stdout=out, stderr=out)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "exporter.log"


@pytest.fixture
def exporter(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings.home.mkdir(parents=True, exist_ok=True)
    process = start(settings, log)
    yield process
    process.kill()
    process.wait()


def alerter_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The alerter, when it is under way."""

    def found() -> psutil.Process | None:
        children = psutil.Process(process.pid).children()
        return next((child for child in children if "exporter.alerting.alerter" in child.cmdline()), None)

    alerter = wait_for(found, seconds=30, what="the alerter runs")
    assert alerter is not None
    return alerter


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exporter_ends_with_an_error_when_its_alerter_does(
    exporter: subprocess.Popen[bytes], log: Path, number: signal.Signals
) -> None:
    alerter_of(exporter).send_signal(number)
    assert exporter.wait(30) == 2
    assert "the alerter ended by itself" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_alerter_ends_with_the_exporter(exporter: subprocess.Popen[bytes], log: Path, number: signal.Signals) -> None:
    alerter = alerter_of(exporter)
    exporter.send_signal(number)
    assert exporter.wait(30) == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    alerter.wait(30)
    assert "Fatal" not in log.read_text()


def test_wrong_address_is_one_line_and_an_exit_code(settings: Settings, log: Path) -> None:
    process = start(settings, log, OPS_ALERT_URLS="nope://x")
    assert process.wait(60) == 2
    assert log.read_text().strip().splitlines()[-1].startswith("ops: OPS_ALERT_URLS: entry 1 (nope://...)")
