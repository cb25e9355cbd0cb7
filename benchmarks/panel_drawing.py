"""Draws the panels of a dashboard as SVG by hand, from the panel's own JSON and the answers of a Prometheus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

COLOURS = {
    "green": "#3d9a4b",
    "red": "#d44a3a",
    "yellow": "#e0a526",
    "blue": "#2f78b7",
    "light-blue": "#8cc0e8",
    "text": "#8a8f98",
}
PALETTE = ("#2f78b7", "#e07b39", "#3d9a4b", "#8b5fbf", "#d44a3a", "#1f9e9e")
HEAD, FOOT, LEFT, RIGHT = 38, 44, 52, 14

Points = list[tuple[float, float]]
"""Seconds since 1970 and values; where there is no value there is no point."""


@dataclass(frozen=True)
class Box:
    """Where a panel is drawn, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Span:
    """The time that is shown, and how far its points are apart, in seconds since 1970 and seconds."""

    start: float
    end: float
    step: float


def frame(panel: dict[str, Any], box: Box, inside: str) -> str:
    """A panel's border and title."""
    return (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="3" class="panel"/>'
        f'<text x="{box.x + 12}" y="{box.y + 22}" class="title">{escape(panel["title"])}</text>{inside}'
    )


def number(panel: dict[str, Any], box: Box, value: float | None) -> str:
    """The value of a stat panel, in the colour of its thresholds; nothing is said where there is none."""
    defaults = panel["fieldConfig"]["defaults"]
    shown, colour = "No data", "text"
    if value is not None:
        steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
        colour = steps[-1]["color"]
        words = {key: told["text"] for one in defaults.get("mappings", []) for key, told in one["options"].items()}
        shown = words.get(f"{value:g}") or amount(value, defaults["unit"])
    middle = f'x="{box.x + box.width / 2}" y="{box.y + box.height - 30}"'
    return frame(panel, box, f'<text {middle} class="number" fill="{COLOURS[colour]}">{escape(shown)}</text>')


def graph(panel: dict[str, Any], box: Box, span: Span, lines: Sequence[tuple[str, Points]]) -> str:
    """A time series panel: lines, or areas on top of each other where the panel stacks."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    drawn = _stack(lines) if stacked else [(name, points, []) for name, points in lines]
    top, tick = _scale(max((value for _, points, _ in drawn for _, value in points), default=0), unit)
    left, right = box.x + LEFT, box.x + box.width - RIGHT
    low, high = box.y + box.height - FOOT, box.y + HEAD

    def place(point: tuple[float, float]) -> str:
        across = (point[0] - span.start) / (span.end - span.start)
        return f"{left + across * (right - left):.1f},{low - point[1] / top * (low - high):.1f}"

    body = []
    for number_ in range(round(top / tick) + 1):
        y = low - number_ * tick / top * (low - high)
        body.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        body.append(f'<text x="{left - 7}" y="{y + 4:.1f}" class="axis end">{amount(number_ * tick, unit)}</text>')
    for at in range(math.ceil(span.start / 60) * 60, int(span.end) + 1, 60):
        x = place((at, 0)).partition(",")[0]
        body.append(f'<text x="{x}" y="{low + 16}" class="axis middle">{datetime.fromtimestamp(at, UTC):%H:%M}</text>')
    legend_x = left
    for number_, (name, points, below) in enumerate(drawn):
        colour = _colour(panel, name, number_)
        if below:
            area = " ".join(place(point) for point in [*points, *reversed(below)])
            body.append(f'<polygon points="{area}" fill="{colour}" fill-opacity="0.55"/>')
        for part in _parts(points, span):
            body.append(f'<polyline points="{" ".join(map(place, part))}" fill="none" stroke="{colour}" class="line"/>')
        body.append(f'<rect x="{legend_x}" y="{low + 27}" width="12" height="4" fill="{colour}"/>')
        body.append(f'<text x="{legend_x + 17}" y="{low + 33}" class="axis">{escape(name)}</text>')
        legend_x += 32 + 6.6 * len(name)
    return frame(panel, box, "".join(body))


def amount(value: float, unit: str) -> str:
    """A value as Grafana would write it."""
    if unit == "percentunit":
        return f"{value:.1%}" if 0 < value < 1 and round(value * 100) != value * 100 else f"{value:.0%}"
    if unit == "s":
        for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
            if value >= 2 * size or value == size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} s"
    return f"{value:.3g}"


def _scale(largest: float, unit: str) -> tuple[float, float]:
    """The end of an axis and the distance of its ticks."""
    if unit == "percentunit" and largest <= 1:
        return 1, 0.25
    rough = (largest or 1) / 4
    power = 10 ** math.floor(math.log10(rough))
    round_ones = [power * factor for factor in (1, 2, 5, 10)]
    if unit == "s" and rough > 10:
        round_ones = [15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 86400]
    tick = next((tick for tick in round_ones if tick >= rough), rough)
    tick = max(tick, 1) if unit == "short" and largest >= 3 else tick
    return tick * math.ceil((largest or 1) / tick), tick


def _stack(lines: Sequence[tuple[str, Points]]) -> list[tuple[str, Points, Points]]:
    below = [(at, 0.0) for at in sorted({at for _, points in lines for at, _ in points})]
    stacked = []
    for name, points in lines:
        known = dict(points)
        above = [(at, base + known.get(at, 0.0)) for at, base in below]
        stacked.append((name, above, below))
        below = above
    return stacked


def _parts(points: Points, span: Span) -> list[Points]:
    """The points, parted where some are missing."""
    parts: list[Points] = []
    for point in points:
        if parts and point[0] - parts[-1][-1][0] < 1.5 * span.step:
            parts[-1].append(point)
        else:
            parts.append([point])
    return parts


def _colour(panel: dict[str, Any], name: str, number_: int) -> str:
    for override in panel["fieldConfig"].get("overrides", []):
        if override["matcher"]["options"] == name:
            return COLOURS[override["properties"][0]["value"]["fixedColor"]]
    return PALETTE[number_ % len(PALETTE)]
