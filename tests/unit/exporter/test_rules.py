"""The rules for Prometheus: valid, tested case by case by promtool, and about metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.dashboards.__main__ import dashboards
from tests.support.documents import ROOT, check_ops, inline_codes
from tests.support.families import FAMILIES
from tests.support.programs import program
from tests.support.promql import metrics_in
from tests.support.rules import ALERTS, RECORDS, RULES

CASES = Path(__file__).parent / "rules"
SCRAPE = {"up"}  # Prometheus's own
REQUIRED = {"fires", "does not fire", "resolves", "data missing", "two replicas"}


each_file = pytest.mark.parametrize("file", RULES, ids=lambda file: file.stem)
each_alert = pytest.mark.parametrize("alert", ALERTS)
each_record = pytest.mark.parametrize("record", RECORDS)


def raw_metrics(expression: str) -> set[str]:
    """The metrics an expression stands on, through the series that are recorded."""
    direct = metrics_in(expression)
    return {name for one in direct for name in (raw_metrics(RECORDS[one][1]["expr"]) if one in RECORDS else {one})}


def cases(name: str, file: Path) -> set[str]:
    """The cases in which promtool tries a rule."""
    groups = yaml.safe_load((CASES / file.name).read_text())["tests"]
    named = [
        group["name"].split(": ", 1) if name.startswith("Ops") else group["name"].rsplit(": ", 1) for group in groups
    ]
    return {case for subject, said in named if subject == name for case in said.split(", ")}


@each_file
def test_rules_are_valid(file: Path) -> None:
    promtool = program("promtool", package="prometheus")
    checked = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@each_file
def test_rules_do_what_their_cases_say(file: Path) -> None:
    promtool = program("promtool", package="prometheus")
    argv = [promtool, "test", "rules", str(CASES / file.name)]
    tested = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@each_alert
def test_alert_is_tried_in_every_case(alert: str) -> None:
    file, rule = ALERTS[alert]
    counts = any(re.search(r"_(total|bucket)$", name) for name in raw_metrics(rule["expr"]))
    assert cases(alert, file) >= REQUIRED | ({"counter reset"} if counts else set())


@each_record
def test_recorded_series_is_tried(record: str) -> None:
    assert cases(record, RECORDS[record][0])


@pytest.mark.parametrize("name", [*ALERTS, *RECORDS])
def test_rule_reads_metrics_that_are_exported(name: str) -> None:
    rule = (ALERTS.get(name) or RECORDS[name])[1]
    samples = {sample for family in FAMILIES for sample in family.sample_names}
    assert raw_metrics(rule["expr"]) <= samples | SCRAPE


@each_alert
def test_alert_says_what_happened_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert][1]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) - {"dashboard_url"} == {"summary", "description", "runbook_url"}
    for code in inline_codes(rule["annotations"]["description"]):
        if code.startswith("ops "):
            check_ops(re.sub(r"\{\{.*?\}\}", "A", code).split()[1:], complete=False)


@each_alert
def test_alert_leads_to_its_heading(alert: str) -> None:
    link = ALERTS[alert][1]["annotations"]["runbook_url"]
    assert link == f'{{{{ or $externalLabels.ops_docs "docs" }}}}/prometheus-alerts.md#{alert.lower()}'


def test_every_alert_has_a_heading_and_every_heading_its_alert() -> None:
    page = (ROOT / "docs" / "prometheus-alerts.md").read_text()
    sections = re.findall(r"^## (.+)\n\n(\w+)\. ", page, re.MULTILINE)
    assert len(sections) == page.count("\n## ")
    assert sorted(sections) == sorted((name, rule["labels"]["severity"].title()) for name, (_, rule) in ALERTS.items())


@each_alert
def test_alert_leads_to_a_dashboard_that_there_is(alert: str) -> None:
    link = ALERTS[alert][1]["annotations"].get("dashboard_url")
    if link is None:  # no panel shows it
        assert alert in ("OpsLockHeld", "OpsScheduleWithoutRuns")
        return
    found = re.fullmatch(
        r"{{ with \$externalLabels\.ops_grafana }}{{ \. }}/d/([\w-]+)"
        r"(?:\?var-(\w+)={{ \$labels\.(\w+) \| urlquery }})?{{ end }}",
        link,
    )
    assert found is not None, link
    board = next(one for one in map(json.loads, dashboards().values()) if one["uid"] == found[1])
    chosen = {variable["name"] for variable in board["templating"]["list"]} - {"datasource"}
    assert {name for name in (found[2], found[3]) if name} <= chosen
    assert found[2] == found[3]
