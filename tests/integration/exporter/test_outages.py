"""The exporter while its database is locked, stopped or gone."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg
import pytest
from pydantic import SecretStr

from exporter.metrics.collector import Room
from opsdb.migrate import create_database, upgrade
from opsdb.settings import Settings
from tests.integration.exporter.conftest import Insert, Scrape, Served, serving
from tests.support.postgres import running

ANSWER_SECONDS = 6.0  # it promises 2.5: a loaded machine gets more


def in_time(served: Served, **headers: str) -> Scrape:
    """A scrape, answered within the promised time."""
    began = time.monotonic()
    answer = served.get(**headers)
    assert time.monotonic() - began < ANSWER_SECONDS
    assert answer.status_code == 200
    return Scrape(answer.text)


def recovered(served: Served) -> Scrape:
    deadline = time.monotonic() + 60
    while (said := served.scrape())("ops_up") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return said


def test_locked_runs_give_no_stale_values(served: Served, settings: Settings, insert: Insert) -> None:
    insert("deploy", "A", "queued")
    assert served.scrape()("ops_runs", kind="deploy", lane="A", status="queued") == 1
    with psycopg.connect(settings.ops_url) as db:
        db.execute("LOCK TABLE ops.runs IN ACCESS EXCLUSIVE MODE")
        said = in_time(served)
        assert said("ops_up") == 0
        assert said("ops_exporter_collector_success", collector="runs") == 0
        assert said("ops_exporter_collector_success", collector="totals") == 1
        assert "ops_runs" not in said.families
        assert served.get("/-/ready").status_code == 503
        assert served.get("/-/healthy").status_code == 200
    assert recovered(served)("ops_runs", kind="deploy", lane="A", status="queued") == 1


def test_short_patience_of_prometheus_is_kept(served: Served, settings: Settings) -> None:
    with psycopg.connect(settings.ops_url) as db:
        db.execute("LOCK TABLE ops.runs, ops.metric_totals, ops.workers IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        answer = served.get(**{"X-Prometheus-Scrape-Timeout-Seconds": "0.4"})
        assert time.monotonic() - began < 6
        said = Scrape(answer.text)
        assert said("ops_up") == 0
        assert "ops_runs_created" not in said.families


def test_connection_that_never_answers_again_is_replaced(served: Served, settings: Settings) -> None:
    assert served.scrape()("ops_up") == 1
    with psycopg.connect(settings.ops_url) as db:
        row = db.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'ops exporter' AND datname = current_database()"
        ).fetchone()
    assert row is not None
    backend = psutil.Process(row[0])
    backend.suspend()
    try:
        assert in_time(served)("ops_up") == 0
        recovered(served)
    finally:
        backend.resume()


@pytest.fixture
def own_server(short_folder: Path) -> Path:
    """A folder for a server that a test may stop."""
    folder = short_folder / "own"
    folder.mkdir(exist_ok=True)
    return folder


def test_server_that_stops_or_goes_is_told_in_time_and_found_again(own_server: Path) -> None:
    with ExitStack() as exporter:
        with running(own_server) as url:
            create_database(url.format(database="postgres"), "ops")
            settings = Settings(home=own_server, database_url=SecretStr(url.format(database="ops")))
            upgrade(settings)
            served = exporter.enter_context(serving(settings, Room(kinds=("deploy",))))
            assert served.scrape()("ops_up") == 1
            postmaster = psutil.Process(int((own_server / "postgres/data/postmaster.pid").read_text().split()[0]))
            processes = [postmaster, *postmaster.children(recursive=True)]
            for process in processes:
                process.suspend()
            try:
                for _ in range(3):  # on the old connection, then on new ones
                    assert nothing_but_itself(in_time(served))
            finally:
                for process in processes:
                    process.resume()
            assert recovered(served)("ops_runs_created_total", kind="deploy", lane="A") == 0
        for _ in range(2):
            assert nothing_but_itself(in_time(served))
        assert served.get("/-/ready").status_code == 503
        with running(own_server):
            assert recovered(served)("ops_runs_created_total", kind="deploy", lane="A") == 0


def nothing_but_itself(said: Scrape) -> bool:
    """Whether the answer says that it knows nothing."""
    return said("ops_up") == 0 and all(name == "ops_up" or name.startswith("ops_exporter_") for name in said.families)
