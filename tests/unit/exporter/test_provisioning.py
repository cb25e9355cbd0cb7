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


def test_what_is_held_back_lasts_until_what_holds_it_back_fires() -> None:
    [held] = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())["inhibit_rules"]
    sources, targets = (set(re.findall(r"Ops\w+", str(held[f"{side}_matchers"]))) for side in ("source", "target"))
    lasting = {name: rule["keep_firing_for"] for name, (_, rule) in ALERTS.items() if "keep_firing_for" in rule}
    assert lasting == dict.fromkeys(targets, "3m")
    assert {ALERTS[name][1]["for"] for name in sources} == {"1m", "2m"}


def test_message_without_bases_of_links_names_the_page_and_tells_what_is_over_from_what_is_not(tmp_path: Path) -> None:
    def alert(status: str, **labels: str) -> dict[str, object]:
        page = "docs/prometheus-alerts.md#opsrunsstuck"
        annotations = {"description": "Text @all.", "runbook_url": page, "dashboard_url": ""}
        times = {"startsAt": "2026-11-24T03:12:05Z", "endsAt": "2026-11-24T03:20:05Z"}
        return {"status": status, "labels": common | labels, "annotations": annotations, **times}

    common = {"alertname": "OpsRunsStuck", "severity": "critical", "job": "ops", "lane": "C"}
    page = {"summary": "Stuck runs are not ended", "runbook_url": "docs/prometheus-alerts.md#opsrunsstuck"}
    alerts = [alert("firing", kind="a"), alert("resolved", kind="b")]
    data = {"status": "firing", "alerts": alerts, "commonLabels": common, "commonAnnotations": page}
    (tmp_path / "data.json").write_text(json.dumps(data))
    [receiver] = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())["receivers"]
    amtool = [program("amtool", package="prometheus-alertmanager"), "template", "render", "--template.glob=/dev/null"]
    title, text = (
        subprocess.run(
            [
                *amtool,
                f"--template.data={tmp_path / 'data.json'}",
                f"--template.text={receiver['slack_configs'][0][part]}",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for part in ("title", "text")
    )
    assert title == "🚨 Stuck runs are not ended · lane C"
    assert text.splitlines() == [
        "Text @\u200ball.",
        "Since 2026-11-24 03:12:05 UTC",
        "",
        "Resolved: kind b, lane C, from 2026-11-24 03:12:05 to 2026-11-24 03:20:05 UTC",
        "",
        "What to do: docs/prometheus-alerts.md#opsrunsstuck",
    ]


def test_workflow_for_n8n_has_the_query_of_the_page() -> None:
    workflow = json.loads((FOLDER / "n8n-stuck-runs.json").read_text())
    nodes = {node["name"]: node for node in workflow["nodes"]}
    query = nodes["What got stuck"]["parameters"]["query"]
    assert f"```sql\n{query}\n```" in (ROOT / "docs" / "monitoring.md").read_text()
    assert set(workflow["connections"]) < set(nodes)
