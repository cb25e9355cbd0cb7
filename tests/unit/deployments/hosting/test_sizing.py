"""Sizes: the formulas and the table of the guide agree, and the measured figures are those of the report."""

from __future__ import annotations

import re

import pytest

from deployments.hosting.sizing import LANES, MEASURED, MOST_RUNS, TIERS, Tier, size_for
from opsdb.settings import Settings
from tests.support.documents import ROOT

REPORT = (ROOT / "benchmarks" / "lanes.md").read_text()
MEMORY = (ROOT / "benchmarks" / "memory.md").read_text()


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_each_row_of_the_table_is_enough_for_what_the_formulas_ask(tier: Tier) -> None:
    found = size_for(tier.runs)
    assert (found.workers, found.tier) == (tier.workers, tier)
    assert found.cores == tier.workers / 2
    assert found.gb == tier.workers * 0.5 + 2
    assert found.cores <= tier.vcpus
    assert found.gb <= tier.gb


@pytest.mark.parametrize(
    ("runs", "workers", "tier", "lane_limit"),
    [(1, 1, "dev", 1), (8, 2, "dev", 2), (9, 3, "small", 3), (13, 4, "medium", 4), (21, 6, "large", 6)],
)
def test_runs_between_two_rows_take_the_larger(runs: int, workers: int, tier: str, lane_limit: int) -> None:
    found = size_for(runs)
    assert (found.workers, found.tier, found.lane_limit) == (workers, TIERS[tier], lane_limit)


def test_more_runs_than_the_table_has_get_no_row_but_their_figures() -> None:
    found = size_for(MOST_RUNS)
    assert (found.tier, found.workers, found.cores, found.gb) == (None, 100, 50, 52)
    assert Settings(lane_limit=found.lane_limit).lane_limit * LANES == MOST_RUNS


def ours(measure: str) -> float:
    """The figure of this room in the report."""
    (found,) = re.findall(rf"^\| {re.escape(measure)} \| ([\d.]+) \|", REPORT, re.MULTILINE)
    return float(found)


def test_measured_figures_are_those_of_the_report() -> None:
    for runs, measured in MEASURED.worker_mb.items():
        assert measured == ours(f"memory, PSS of the tree (MB): {f'{runs} sleeping runs' if runs else 'no run'}")
    assert MEASURED.sync_mb == ours("beside it, `ops sync` (MB)")
    parts = dict(re.findall(r"^\| (\w+) \| \d+ MB \| (\d+) MB \|$", MEMORY, re.MULTILINE))
    others = {name: int(mb) for name, mb in parts.items() if name not in ("worker", "sync", "all")}
    assert others.keys() == {"prefect", "postgres", "supervisor", "alerter", "exporter"}
    assert MEASURED.others_mb == sum(others.values())
    burst = "CPU seconds per run (burst of 100): "
    of = ("worker, its children and all steps", "Prefect's server", "PostgreSQL", "`ops sync`")
    assert MEASURED.cpu_seconds_per_run == pytest.approx(sum(ours(burst + part) for part in of))


@pytest.mark.parametrize(
    ("runs", "slots", "megabytes", "known"),
    [
        (4, 4, 376, "measured"),
        (5, 8, 528, "interpolated: 4 and 12 runs were measured"),
        (12, 12, 679, "measured"),
        (13, 16, 830, "interpolated: 12 and 40 runs were measured"),
        (40, 40, 1737, "measured"),
        (80, 80, 3248, "extrapolated: 12 and 40 runs were measured"),
    ],
)
def test_memory_is_of_what_the_lanes_admit_and_says_how_it_is_known(
    runs: int, slots: int, megabytes: int, known: str
) -> None:
    found = size_for(runs)
    assert (found.slots, found.worker_mb, found.worker_mb_known) == (slots, megabytes, known)
