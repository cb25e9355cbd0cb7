"""Writes the table of `benchmarks/lanes.py`."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measures import Burst, Results

MEGABYTE = 1024 * 1024
BURST_ROWS: tuple[tuple[str, Callable[[Burst], float], bool], ...] = (
    ("runs per minute", lambda burst: burst.per_minute, True),
    ("start, median (s)", lambda burst: burst.start_median, False),
    ("start, 99th of 100 (s)", lambda burst: burst.start_p99, False),
)
CPU_ROWS = (
    ("worker, its children and all steps", "worker"),
    ("of that, the worker's own process", "worker process"),
    ("Prefect's server", "server"),
    ("PostgreSQL", "postgres"),
    ("`ops sync`", "sync"),
)


def report(results: Results) -> str:
    """The report as Markdown."""
    return (
        "\n".join(
            [
                "# Our lane worker beside Prefect's stock process worker",
                "",
                f"Made by `make benchmark` in {results.seconds / 60:.0f} minutes. {machine()}",
                "",
                "One Prefect server and one PostgreSQL served both, `ops sync` ran all the time, both workers polled "
                "every second and had no limit of concurrent runs. The runbook is the same, and the runs of both are "
                "recorded in `ops`. The workers ran in turn, never together; the figures of bursts are medians over "
                f"{results.sizes.rounds} rounds. A run starts when it is Running; a burst lasts from the first "
                "creation to the last end, so creating its runs is part of it. A ratio above 1 is in our favour.",
                "",
                "| Measure | ours | stock | ratio |",
                "|---|---:|---:|---:|",
                *_burst_rows(results),
                *_memory_rows(results),
                *_cancel_rows(results),
                "",
                *_limits(results),
                "",
                *_requests(results),
                "",
                "## Notes",
                "",
                *(f"- {note}" for note in results.notes),
                "- `cancelled; its own worker did not answer` is what `ops sync` says of a run that it ended, since "
                "its worker had not within 6 s: such a figure would be longer without the room.",
                "- " + _completed(results),
            ]
        ).rstrip()
        + "\n"
    )


def machine() -> str:
    """What it ran on."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    revision = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release()}, Python {platform.python_version()}, "
        f"Prefect {version('prefect')}, {datetime.now(UTC):%Y-%m-%d}, git {revision}."
    )


def row(measure: str, ours: float, stock: float, *, more_is_better: bool = False) -> str:
    """A line of the table."""
    factor = (ours / stock if more_is_better else stock / ours) if ours and stock else math.nan
    shown = f"{factor:.1f}" if math.isfinite(factor) else "-"
    return f"| {measure} | {_number(ours)} | {_number(stock)} | {shown} |"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _burst_rows(results: Results) -> list[str]:
    rows = []
    for runs in results.sizes.bursts:
        for name, of, more in BURST_ROWS:
            ours, stock = (results.median(system, runs, of) for system in ("ours", "stock"))
            rows.append(row(f"burst of {runs}: {name}", ours, stock, more_is_better=more))
    runs = results.sizes.bursts[-1]
    for name, key in CPU_ROWS:
        ours, stock = (results.median(system, runs, lambda burst: burst.cpu[key]) for system in ("ours", "stock"))  # noqa: B023
        rows.append(row(f"CPU seconds per run (burst of {runs}): {name}", ours, stock))
    return rows


def _memory_rows(results: Results) -> list[str]:
    return [
        row(
            f"memory, PSS of the tree (MB): {f'{size} sleeping runs' if size else 'no run'}",
            *(results.memory[system, size]["worker"] / MEGABYTE for system in ("ours", "stock")),
        )
        for size in (0, *results.sizes.concurrent)
    ] + [
        row(
            "beside it, `ops sync` (MB)",
            *(results.memory[system, 0]["sync"] / MEGABYTE for system in ("ours", "stock")),
        )
    ]


def _cancel_rows(results: Results) -> list[str]:
    ours, stock = results.cancels["ours"], results.cancels["stock"]
    count = min(len(ours), len(stock))
    return [
        row(f"cancel, median of {count} (s)", statistics.median(ours), statistics.median(stock)),
        row(f"cancel, longest of {count} (s)", max(ours), max(stock)),
    ]


def _limits(results: Results) -> list[str]:
    runs = results.sizes.bursts[-1]
    ours = results.median("ours", runs, lambda burst: burst.per_minute)
    server = 60 / results.median("ours", runs, lambda burst: burst.cpu["server"])
    cores = os.cpu_count() or 1
    every = ("worker", "server", "postgres", "sync")
    machine_limit = cores * 60 / results.median("ours", runs, lambda burst: sum(burst.cpu[key] for key in every))
    lines = [
        "## How far it could go",
        "",
        "| Limit | runs per minute | we are at |",
        "|---|---:|---:|",
        f"| `bash -euo pipefail -c true`, {cores} cores, 2 at a time | {results.bash[2]:.0f} | "
        f"{ours / results.bash[2]:.1%} |",
        f"| the same, one after another | {results.bash[1]:.0f} | {ours / results.bash[1]:.1%} |",
        f"| Prefect's server, one core kept busy with our requests | {server:.0f} | {ours / server:.0%} |",
        f"| all {cores} cores busy with what a run of ours costs | {machine_limit:.0f} | {ours / machine_limit:.0%} |",
    ]
    if results.plain:
        plain = results.plain
        lines += [
            "",
            f"For comparison, the stock worker with a plain Prefect flow (one `subprocess.run`, nothing recorded in "
            f"`ops`): {plain.per_minute:.0f} runs per minute in a burst of {plain.runs}, median start "
            f"{plain.start_median:.1f} s, {plain.cpu['worker']:.2f} CPU seconds per run in the worker's tree. "
            f"We are at {results.median('ours', plain.runs, lambda burst: burst.per_minute) / plain.per_minute:.1f} "
            "times that.",
        ]
    return lines


def _requests(results: Results) -> list[str]:
    ours, stock = results.requests["ours"], results.requests["stock"]
    paths = sorted(
        {*ours.per_run, *stock.per_run}, key=lambda path: (-ours.per_run.get(path, 0), -stock.per_run.get(path, 0))
    )
    lines = [
        "## Requests to Prefect's server",
        "",
        "Per run, counted in a pass of its own; without the run's creation, and without polling "
        f"({ours.polling_per_minute:.0f} requests a minute ours, {stock.polling_per_minute:.0f} stock).",
        "",
        "| Request | ours | stock |",
        "|---|---:|---:|",
    ]
    lines += [f"| `{path}` | {ours.per_run.get(path, 0):.1f} | {stock.per_run.get(path, 0):.1f} |" for path in paths]
    return [*lines, f"| **all** | **{ours.total:.1f}** | **{stock.total:.1f}** |"]


def _completed(results: Results) -> str:
    bursts = [burst for rounds in results.bursts.values() for burst in rounds]
    lost = sum(burst.runs - burst.completed for burst in bursts)
    return f"{sum(burst.runs for burst in bursts)} runs were timed; {lost} of them did not complete."
