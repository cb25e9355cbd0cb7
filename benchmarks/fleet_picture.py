"""Draws docs/fleet.svg: the fleet overview, as a real Prometheus answers its queries.

    python -m benchmarks.fleet_picture [ADDRESS OF A PROMETHEUS]

Without an address it lets a Prometheus scrape a made-up room for six minutes first.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.panel_drawing import Box, Points, Span, graph, number
from tests.support import made_up_exporter
from tests.support.prometheus import Prometheus, scraping

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "exporter" / "dashboards" / "fleet.json"
PICTURE = ROOT / "docs" / "fleet.svg"
MINUTES = 6
COLUMN, ROW, GAP, TOP = 46, 27, 8, 58


def picture(prometheus: Prometheus, span: Span) -> str:
    """The dashboard as SVG."""
    dashboard = json.loads(DASHBOARD.read_text())
    body = "\n".join(_panel(panel, prometheus, span) for panel in dashboard["panels"])
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    width, height = 24 * COLUMN + 2 * GAP, TOP + rows * ROW + GAP
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>
text {{ font-family: system-ui, "DejaVu Sans", sans-serif }} .head {{ font-size: 18px; font-weight: 600; fill: #222 }}
.title {{ font-size: 13px; font-weight: 600; fill: #222 }} .note {{ font-size: 11.5px; fill: #666 }}
.number {{ font-size: 30px; font-weight: 600; text-anchor: middle }} .axis {{ font-size: 11px; fill: #555 }}
.end {{ text-anchor: end }} .middle {{ text-anchor: middle }} .grid {{ stroke: #e6e6e6 }}
.panel {{ fill: #fff; stroke: #dcdfe3 }} .line {{ stroke-width: 1.5; stroke-linejoin: round }}
</style>
<rect width="100%" height="100%" fill="#f4f5f6"/>
<text x="{2 * GAP}" y="28" class="head">{dashboard["title"]}</text>
<text x="{2 * GAP}" y="47" class="note">As a Prometheus answered, in the layout of the dashboard. Times are UTC.</text>
{body}
</svg>
"""


def _panel(panel: dict[str, Any], prometheus: Prometheus, span: Span) -> str:
    place = panel["gridPos"]
    box = Box(
        GAP + place["x"] * COLUMN + GAP / 2,
        TOP + place["y"] * ROW,
        place["w"] * COLUMN - GAP,
        place["h"] * ROW - GAP,
    )
    queries = [
        (target["expr"].replace("$__rate_interval", "1m"), target["legendFormat"]) for target in panel["targets"]
    ]
    if panel["type"] == "stat":
        series = prometheus.now(queries[0][0], time=str(span.end))
        return number(panel, box, float(series[0]["value"][1]) if series else None)
    lines: list[tuple[str, Points]] = []
    for expression, legend in queries:
        for one in prometheus.over(expression, start=span.start, end=span.end, step=span.step):
            name = _named(legend, one["metric"])
            lines.append((name, [(at, float(value)) for at, value in one["values"] if value != "NaN"]))
    return graph(panel, box, span, lines)


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels[found[1]], legend)


def main() -> None:
    """Write the picture."""
    with ExitStack() as stack:
        if sys.argv[1:]:
            prometheus = Prometheus(sys.argv[1].rstrip("/"))
        else:
            address = stack.enter_context(made_up_exporter.serving(warm_up_seconds=900, pace=0.4))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ops-picture-"))
            prometheus = stack.enter_context(scraping(address, Path(folder)))
            time.sleep((MINUTES + 1) * 60)
        end = float(int(time.time()))
        PICTURE.write_text(picture(prometheus, Span(end - MINUTES * 60, end, 2)))


if __name__ == "__main__":
    main()
