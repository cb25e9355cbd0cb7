"""Every panel's query is answered with data by a real Prometheus that scrapes a room."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import made_up_exporter
from tests.support.dashboards import ANNOTATIONS, QUERIES, Query
from tests.support.families import FAMILIES
from tests.support.programs import program
from tests.support.prometheus import Prometheus, scraping
from tests.support.rules import ALERTS, RECORDS

RATE_INTERVAL = "10s"
PATIENCE_SECONDS = 60
WARM_UP_SECONDS = 300


@pytest.fixture(scope="module")
def exporter_address() -> Iterator[str]:
    """What is scraped, as `host:port`: an exporter of a room in which runs succeeded, failed, waited and stuck."""
    with made_up_exporter.serving(warm_up_seconds=WARM_UP_SECONDS) as address:
        yield address


@pytest.fixture(scope="module")
def prometheus(exporter_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with scraping(exporter_address, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


@pytest.fixture(scope="module")
def deadline(prometheus: Prometheus) -> float:
    """Until when all tests together wait for data."""
    return time.monotonic() + PATIENCE_SECONDS


def test_metrics_are_well_formed(exporter_address: str) -> None:
    scraped = httpx.get(f"http://{exporter_address}/metrics", timeout=10, trust_env=False).content
    argv = [program("promtool", package="prometheus"), "check", "metrics"]
    checked = subprocess.run(argv, input=scraped, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_every_family_is_there_with_its_type(exporter_address: str) -> None:
    scraped = httpx.get(f"http://{exporter_address}/metrics", timeout=10, trust_env=False).text
    told = {family.name: family.type for family in text_string_to_metric_families(scraped)}
    wanted = {family.name.removesuffix("_total"): family.type for family in FAMILIES}
    assert {name: type_ for name, type_ in told.items() if name.startswith("ops_")} == wanted


@pytest.mark.parametrize("query", [*QUERIES, *ANNOTATIONS], ids=str)
def test_panel_is_answered_with_data(prometheus: Prometheus, deadline: float, query: Query) -> None:
    while not (series := prometheus.now(query.filled(RATE_INTERVAL))) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert series, query.expression
    labels = set(re.findall(r"{{(\w+)}}", query.legend))
    assert all(labels <= set(one["metric"]) for one in series)


@pytest.mark.parametrize("query", ANNOTATIONS, ids=str)
def test_line_stands_at_the_second_of_its_event(prometheus: Prometheus, deadline: float, query: Query) -> None:
    while not (series := prometheus.now(query.filled(RATE_INTERVAL))) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert series
    for one in series:
        seconds = float(one["value"][1]) / 1000
        assert time.time() - WARM_UP_SECONDS - 60 < seconds <= time.time()


def test_no_rule_fails(prometheus: Prometheus, deadline: float) -> None:
    while True:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] == "ok" for rule in rules) or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    assert len(rules) == len(ALERTS) + len(RECORDS)
