"""The dashboards: as committed, with queries that a parser takes, about metrics and labels that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from exporter.dashboards.__main__ import FOLDER, dashboards
from exporter.dashboards.events import DEPLOYS
from opsdb.kinds.kinds import registered_kinds
from tests.support.dashboards import ANNOTATIONS, FILES, QUERIES, Query, panels
from tests.support.documents import ROOT
from tests.support.families import FAMILIES
from tests.support.promql import metrics_in, selectors_in
from tests.support.rules import ALERTS, RECORDS

FROM_PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
LABELS = {name: {*family.labels, "le"} for family in FAMILIES for name in family.sample_names}

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
each_query = pytest.mark.parametrize("query", [*QUERIES, *ANNOTATIONS], ids=str)


def test_dashboards_are_as_generated() -> None:
    assert {file.name: file.read_text() for file in FILES} == dashboards(), "run `make dashboards`"


@each_query
def test_query_is_one_and_about_what_is_exported(query: Query) -> None:
    for selector in selectors_in(query.filled("1m")):
        assert selector.name in LABELS or selector.name in RECORDS or selector.name in FROM_PROMETHEUS
        matched = {matcher.name for matcher in selector.matchers.matchers} - {"job"}
        assert matched <= LABELS.get(selector.name or "", {"kind", "lane"}), query.expression
    assert "$" not in query.filled("1m")


def test_recorded_series_are_used() -> None:
    read = [rule["expr"] for _, rule in [*ALERTS.values(), *RECORDS.values()]] + [q.filled("1m") for q in QUERIES]
    assert set(RECORDS) <= {name for expression in read for name in metrics_in(expression)}


def test_every_family_is_seen_somewhere() -> None:
    read = [rule["expr"] for _, rule in [*ALERTS.values(), *RECORDS.values()]] + [
        q.filled("1m") for q in (*QUERIES, *ANNOTATIONS)
    ]
    seen = {name for expression in read for name in metrics_in(expression)}
    assert [family.name for family in FAMILIES if not family.sample_names & seen] == []


@each_file
def test_variables_are_declared(file: Path) -> None:
    text = file.read_text()
    declared = {variable["name"] for variable in json.loads(text)["templating"]["list"]}
    used = {name for name in ("lane", "kind", "database", "datasource") if f"${name}" in text}
    assert used == declared


@each_file
def test_panels_are_explained_and_do_not_overlap(file: Path) -> None:
    taken: dict[tuple[int, int], Any] = {}
    for panel in panels(file):
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_dashboards_have_addresses_of_their_own() -> None:
    uids = [json.loads(file.read_text())["uid"] for file in FILES]
    assert len(set(uids)) == len(uids) == len(list(FOLDER.glob("*.json")))


def test_every_dashboard_has_lines_for_failures_and_deploys() -> None:
    drawn = {(query.dashboard, query.panel) for query in ANNOTATIONS}
    assert drawn == {(file.stem, name) for file in FILES for name in ("Failed", "Deploys started", "Deploys done")}
    for file in FILES:
        for one in json.loads(file.read_text())["annotations"]["list"]:
            assert one["datasource"] == {"type": "prometheus", "uid": "$datasource"}
            assert (one["enable"], one["useValueForTime"]) == (True, True)


def test_deploys_are_runbooks_that_there_are() -> None:
    [kinds] = re.findall(r'kind=~"(.*)"', DEPLOYS)
    assert set(kinds.split("|")) <= set(registered_kinds(ROOT / "prefect.yaml"))
