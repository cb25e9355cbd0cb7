"""Writes the dashboards as JSON: `make dashboards`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from exporter.dashboards.alerting import alerting
from exporter.dashboards.backups import backups
from exporter.dashboards.fleet import fleet
from exporter.dashboards.kind import kind
from exporter.dashboards.lanes import lanes

FOLDER = Path(__file__).parent


def dashboards() -> dict[str, str]:
    """The text of every dashboard, by the name of its file."""
    built = {"fleet": fleet, "lanes": lanes, "kind": kind, "backups": backups, "alerting": alerting}
    return {
        f"{name}.json": json.dumps(build().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, build in built.items()
    }


if __name__ == "__main__":
    for name, written in dashboards().items():
        (FOLDER / name).write_text(written)
