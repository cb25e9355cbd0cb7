"""The committed dashboards, as their panels ask Prometheus."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "exporter" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
CHOSEN = {"$lane": ".*", "$database": ".*", "$kind": "odoo_db_backup"}


@dataclass(frozen=True)
class Query:
    """One query of one panel, or of lines over all of them."""

    dashboard: str
    panel: str
    expression: str
    legend: str

    def filled(self, rate_interval: str) -> str:
        """The expression as Grafana sends it, with everything chosen."""
        expression = self.expression.replace("$__rate_interval", rate_interval)
        for variable, value in CHOSEN.items():
            expression = expression.replace(variable, value)
        return expression

    def __str__(self) -> str:
        """What a test is called after."""
        return f"{self.dashboard}: {self.panel}: {self.legend}"


def panels(file: Path) -> list[dict[str, Any]]:
    """The panels of a dashboard."""
    found: list[dict[str, Any]] = json.loads(file.read_text())["panels"]
    return found


QUERIES = [
    Query(file.stem, panel["title"], target["expr"], target.get("legendFormat", ""))
    for file in FILES
    for panel in panels(file)
    for target in panel["targets"]
]
ANNOTATIONS = [
    Query(file.stem, one["name"], one["target"]["expr"], f"{one['titleFormat']}, {one['textFormat']}")
    for file in FILES
    for one in json.loads(file.read_text())["annotations"]["list"]
]
"""Their values are times, in milliseconds."""
