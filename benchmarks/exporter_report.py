"""Writes the table and the picture of `benchmarks/exporter.py`."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.picture import WIDTH, page
from benchmarks.report import machine

Found = dict[str, dict[str, Any]]
"""The figures of each stage."""

SYSTEMS = (("ours", "ops exporter", "#1f6f8b"), ("paging", "paging the API", "#c9c3b8"))
LEFT, BAR = 190, 18


def report(found: Found) -> str:
    """The report as Markdown."""
    small, large = found["small"], found["large"]
    ratio = large["ours"]["median"] / small["ours"]["median"]
    lines = [
        "# A scrape of our exporter beside paging Prefect's API",
        "",
        f"Made by `benchmarks/exporter.py`. {machine()}",
        "",
        f"{small['active']:,} active runs in both sizes, 6 kinds, 4 lanes, 50 databases with backups. Every scrape is "
        "timed at the client, over HTTP, one after another. The room is quiet: no heartbeats are written meanwhile.",
        "",
        "*Paging* is the approach of prometheus-prefect-exporter, not its package: each scrape pages all active runs, "
        "200 at a time and twice over, and makes a sample of each. The pages come from a stand-in for Prefect's API, "
        "which reads the same rows by SQL and does without all that Prefect's server does. The package itself, with "
        "Prefect's server, was measured before: 8.9 s at the 95th percentile, 173 MB and 9,370 series.",
        "",
        "| | finished runs | median (ms) | p95 (ms) | p99 (ms) | under 50 ms | series | memory (MB) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size in (small, large):
        for key, name, _ in SYSTEMS:
            figures = size[key]
            lines.append(
                f"| {name} | {size['finished']:,} | {_ms(figures['median'])} | {_ms(figures['p95'])} | "
                f"{_ms(figures['p99'])} | {figures['under_50']:.1%} | {figures['series']:,} | {figures['rss_mb']:.0f} |"
            )
    return "\n".join(
        [
            *lines,
            "",
            f"- Our median with {large['finished']:,} finished runs is {ratio:.2f} times that with "
            f"{small['finished']:,} (bar: 1.3).",
            f"- {large['ours']['count']:,} scrapes of ours and {large['paging']['count']} of paging in each size.",
            "- Memory is the resident set of the process, after those scrapes." + _memory(found.get("memory")),
            "",
        ]
    )


def _memory(memory: dict[str, Any] | None) -> str:
    if memory is None:
        return " What is held after 10,000 of ours was not measured in this run."
    return (
        f" After {memory['scrapes']:,} of ours: {memory['rss_mb']:.1f} MB (bar: 64), {memory['pss_mb']:.1f} MB of it "
        f"its own (PSS); after the first ten it was {memory['before_mb']:.1f} MB. This was measured with "
        f"{memory['active']} active runs: the exporter gets sums, however many there are."
    )


def picture(found: Found) -> str:
    """The picture as SVG: the median scrape, on a logarithmic scale."""
    y, body = 70, []
    for size in ("small", "large"):
        body.append(
            f'<text x="24" y="{y + 14}" class="title">{found[size]["finished"]:,} finished runs, '
            f"{found[size]['active']:,} active</text>"
        )
        y += 28
        for key, name, colour in SYSTEMS:
            value = found[size][key]["median"]
            width = max(2.0, math.log10(max(value, 1)) / 4 * (WIDTH - LEFT - 140))
            body.append(
                f'<text x="{LEFT - 12}" y="{y + 14}" class="label">{escape(name)}</text>'
                f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
                f'<text x="{LEFT + width + 6:.1f}" y="{y + 14}" class="value">{_ms(value)} ms, '
                f"{found[size][key]['series']:,} series</text>"
            )
            y += BAR + 6
        y += 12
    scale = '<text x="24" y="52" class="value">logarithmic scale</text>'
    return page("One scrape, median", [scale, *body], foot_at=y + 8)


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
