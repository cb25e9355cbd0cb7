"""The files that an operator copies to Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml

from tests.support.documents import ROOT
from tests.support.programs import program
from tests.support.rules import ALERTS

FOLDER = ROOT / "exporter" / "provisioning"
CHECKOUT = "/opt/ops-control-room"


def test_configuration_of_prometheus_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text((FOLDER / "prometheus.yml").read_text().replace(CHECKOUT, str(ROOT)))
    argv = [program("promtool", package="prometheus"), "check", "config", str(file)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(list((ROOT / 'exporter' / 'rules').glob('*.yml')))} rule files found" in checked.stdout


def test_path_that_fits_no_rule_file_is_seen_by_the_check_that_the_docs_name(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert "promtool check config /etc/prometheus/prometheus.yml" in page
    assert f"`{len(list((ROOT / 'exporter' / 'rules').glob('*.yml')))} rule files found`" in page
    file = tmp_path / "prometheus.yml"
    file.write_text((FOLDER / "prometheus.yml").read_text().replace(CHECKOUT, "/nowhere"))
    argv = [program("promtool", package="prometheus"), "check", "config", str(file)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert checked.returncode == 0
    assert "rule files found" not in checked.stdout


def test_paths_in_the_checkout_exist() -> None:
    [pattern] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"]
    [provider] = yaml.safe_load((FOLDER / "grafana-dashboards.yml").read_text())["providers"]
    for path in (pattern, provider["options"]["path"]):
        assert path.startswith(CHECKOUT)
        assert list(ROOT.glob(path.removeprefix(CHECKOUT + "/")))


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    [source] = yaml.safe_load((FOLDER / "grafana-datasource.yml").read_text())["datasources"]
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_alertmanager_names_alerts_and_labels_that_there_are() -> None:
    config = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    names = {
        name
        for rule in config["inhibit_rules"]
        for words in rule.values()
        for name in re.findall(r"Ops\w+", str(words))
    }
    assert names <= set(ALERTS)
    assert {route["receiver"] for route in [config["route"], *config["route"]["routes"]]} <= {
        receiver["name"] for receiver in config["receivers"]
    }


def test_workflow_for_n8n_has_the_query_of_the_page() -> None:
    workflow = json.loads((FOLDER / "n8n-stuck-runs.json").read_text())
    nodes = {node["name"]: node for node in workflow["nodes"]}
    query = nodes["What got stuck"]["parameters"]["query"]
    assert f"```sql\n{query}\n```" in (ROOT / "docs" / "monitoring.md").read_text()
    assert set(workflow["connections"]) < set(nodes)
