"""The exporter and the alerter as processes: each for itself, and how they begin and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from cli.doctor.room import check_alerts
from deployments.room.readiness import alerter_works
from opsdb.settings import Settings
from tests.support.children import free_port
from tests.support.waiting import wait_for

REPOSITORY = Path(__file__).parents[3]
PORT = free_port()

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Starts `ops exporter` or `ops alerter`; its output is in a file of its name."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPS_", "PREFECT_"))}
    ours = {"OPS_HOME": str(settings.home), "OPS_DATABASE_URL": settings.ops_url, "OPS_EXPORTER_PORT": str(PORT)}
    with ExitStack() as stack:

        def run(name: str, **variables: str) -> subprocess.Popen[bytes]:
            argv = [sys.executable, "-m", "cli", name]
            with (tmp_path / name).open("wb") as out:
                process = subprocess.Popen(argv, env=clean | ours | variables, cwd=REPOSITORY, stdout=out, stderr=out)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield run


def metrics_answer() -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{PORT}/-/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_exporter_says_where_alerts_are_and_starts_no_alerter(start: Start, settings: Settings, tmp_path: Path) -> None:
    exporter = start("exporter")
    wait_for(metrics_answer, seconds=60, what="the metrics answer")
    assert "alerts are sent by another part of the room, `ops alerter`" in (tmp_path / "exporter").read_text()
    assert psutil.Process(exporter.pid).children() == []
    assert not alerter_works(settings.ops_url)
    exporter.send_signal(signal.SIGTERM)
    assert exporter.wait(30) == 0


def looked_since(settings: Settings, since: datetime) -> Callable[[], bool]:
    """Whether the alerter has looked at the rules after that moment."""
    return lambda: alerter_works(settings.ops_url, since=since)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exporter_and_alerter_go_on_without_each_other(
    start: Start, settings: Settings, number: signal.Signals
) -> None:
    exporter, alerter = start("exporter"), start("alerter")
    wait_for(metrics_answer, seconds=60, what="the metrics answer")
    wait_for(looked_since(settings, datetime.now(UTC)), seconds=60, what="the alerter looks")
    exporter.send_signal(number)
    exporter.wait(30)
    wait_for(looked_since(settings, datetime.now(UTC)), seconds=30, what="the alerter looks without the exporter")

    start("exporter")
    wait_for(metrics_answer, seconds=60, what="the metrics answer")
    alerter.send_signal(number)
    assert alerter.wait(30) == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    assert metrics_answer()


def test_alerter_is_missed_after_60_seconds(settings: Settings) -> None:
    with psycopg.connect(settings.ops_url, autocommit=True) as db:
        assert not alerter_works(settings.ops_url)
        db.execute("INSERT INTO ops.sync_marks (name, at, updated_at) VALUES ('alerts', now(), now())")
        for ago, works in ((55, True), (61, False)):
            db.execute("UPDATE ops.sync_marks SET updated_at = now() - make_interval(secs => %s)", [ago])
            assert alerter_works(settings.ops_url) is works
            assert {one.subject: one.ok for one in check_alerts(settings)}["alerter"] is works
            assert not alerter_works(settings.ops_url, since=datetime.now(UTC) - timedelta(seconds=30))


@pytest.mark.parametrize("name", ["exporter", "alerter"])
def test_wrong_setting_is_one_line_and_an_exit_code(start: Start, tmp_path: Path, name: str) -> None:
    wrong = {"exporter": {"OPS_EXPORTER_ADDRESS": "192.0.2.1"}, "alerter": {"OPS_ALERT_URLS": "nope://x"}}
    assert start(name, **wrong[name]).wait(60) == 2
    [line] = (tmp_path / name).read_text().splitlines()
    assert line.startswith(f"ops: {next(iter(wrong[name]))}")
