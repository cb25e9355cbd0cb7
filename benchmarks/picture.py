"""Draws the picture of `benchmarks/lanes.py`: bars, as SVG by hand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.measures import Results
from benchmarks.report import MEGABYTE, machine

Panel = tuple[str, list[tuple[str, float, float]]]
"""A title, and rows of a label, our value and the stock value."""

WIDTH, LEFT, RIGHT, BAR, ROW, TITLE = 760, 150, 110, 15, 46, 34
COLOURS = {"ours": "#1f6f8b", "stock": "#c9c3b8"}


def picture(results: Results) -> str:
    """The picture as SVG. Each panel has a scale of its own."""
    y, body = 74, []
    for title, rows in _panels(results):
        longest = max((value for row in rows for value in row[1:] if math.isfinite(value)), default=1) or 1
        body.append(f'<text x="24" y="{y + 14}" class="title">{escape(title)}</text>')
        y += TITLE
        for label, *values in rows:
            body.append(f'<text x="{LEFT - 12}" y="{y + BAR + 5}" class="label">{escape(label)}</text>')
            for number, (system, value) in enumerate(zip(COLOURS, values, strict=True)):
                top = y + number * (BAR + 2)
                width = max(1.0, min(value / longest, 1) * (WIDTH - LEFT - RIGHT))
                body.append(
                    f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[system]}"/>'
                    f'<text x="{LEFT + width + 6:.1f}" y="{top + BAR - 3}" class="value">{_number(value)}</text>'
                )
            y += ROW
        y += 8
    legend = "".join(
        f'<rect x="{24 + 200 * number}" y="46" width="12" height="12" fill="{COLOURS[system]}"/>'
        f'<text x="{42 + 200 * number}" y="56" class="value">{words}</text>'
        for number, (system, words) in enumerate((("ours", "our lane worker"), ("stock", "stock process worker")))
    )
    return page("The same runbook, the same server, two workers", [legend, *body], foot_at=y + 14)


def page(title: str, body: Sequence[str], *, foot_at: int) -> str:
    """An SVG of `WIDTH`, with a title, the elements of the body, and the machine at its foot."""
    height = foot_at + 16
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">
<style>
text {{ font-family: system-ui, "DejaVu Sans", sans-serif; fill: #222 }}
.head {{ font-size: 18px; font-weight: 600 }} .title {{ font-size: 14px; font-weight: 600 }}
.label {{ font-size: 13px; text-anchor: end }} .value {{ font-size: 12px }} .foot {{ font-size: 10.5px; fill: #666 }}
</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="24" y="32" class="head">{title}</text>
{chr(10).join(body)}
<text x="24" y="{foot_at}" class="foot">{escape(machine())}</text>
</svg>
"""


def _panels(results: Results) -> list[Panel]:
    bursts = results.sizes.bursts

    def of_bursts(name: str) -> list[tuple[str, float, float]]:
        return [
            (
                f"burst of {runs}",
                results.median("ours", runs, lambda burst: float(getattr(burst, name))),
                results.median("stock", runs, lambda burst: float(getattr(burst, name))),
            )
            for runs in bursts
        ]

    def cpu(name: str) -> tuple[float, float]:
        ours, stock = (results.median(system, bursts[-1], lambda burst: burst.cpu[name]) for system in COLOURS)
        return ours, stock

    def megabytes(size: int) -> tuple[float, float]:
        ours, stock = (results.memory[system, size]["worker"] / MEGABYTE for system in COLOURS)
        return ours, stock

    ours, stock = (statistics.median(results.cancels[system]) for system in COLOURS)
    return [
        ("Runs per minute (more is better)", of_bursts("per_minute")),
        ("Seconds from creation to start, median (less is better, as in all below)", of_bursts("start_median")),
        (
            f"CPU seconds per run, burst of {bursts[-1]}",
            [("worker and runs", *cpu("worker")), ("Prefect's server", *cpu("server"))],
        ),
        (
            "Memory of the worker and its runs, MB (PSS)",
            [(f"{size} sleeping runs", *megabytes(size)) for size in results.sizes.concurrent],
        ),
        ("Seconds until a cancelled run is gone, median", [("cancel", ours, stock)]),
    ]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
