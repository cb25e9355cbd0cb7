"""How large a host has to be: the formulas and the table of the deployment guide, beside what was measured here.

The guide (section 1) sizes for workers of four runs each. A worker of this room serves all lanes from one process, so
the memory that was measured is per worker and per run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

RUNS_PER_WORKER = 4
LANES = 4
GB_PER_WORKER = 0.5
GB_FOR_SYSTEM = 2.0
MOST_RUNS = 400
"""Four lanes of 100, the most that OPS_LANE_LIMIT allows."""


@dataclass(frozen=True)
class Tier:
    """A row of the guide's table. `usd` is a price for a month, as of 2026-01."""

    name: str
    droplet: str
    vcpus: int
    gb: float
    workers: int
    runs: int
    usd: int


TIERS = {
    tier.name: tier
    for tier in (
        Tier("dev", "s-2vcpu-4gb", 2, 4, 2, 8, 24),
        Tier("small", "s-4vcpu-8gb", 4, 8, 3, 12, 48),
        Tier("medium", "s-8vcpu-16gb", 8, 16, 5, 20, 96),
        Tier("large", "c-8", 8, 16, 10, 40, 168),
    )
}


@dataclass(frozen=True)
class Measured:
    """Figures of `benchmarks/lanes.md` and `memory.md`; a test compares them. Memory is in MB, of sleeping runs."""

    worker_mb: Mapping[int, float] = field(default_factory=lambda: {0: 221, 4: 376, 12: 679, 40: 1737})
    """Of one worker with its runs, by their number."""
    sync_mb: float = 105
    others_mb: float = 517
    """Of Prefect's server, PostgreSQL, the supervisor, the alerter and the exporter together, after 40 runs."""
    cpu_seconds_per_run: float = 0.74
    """Of the worker with its children, Prefect's server, PostgreSQL and the sync together, for a run of little work."""

    def estimate(self, runs: int) -> tuple[float, str]:
        """The memory of a worker with this many runs, and how that is known: in a word, and from which figures."""
        if runs in self.worker_mb:
            return self.worker_mb[runs], "measured"
        points = list(pairwise(self.worker_mb.items()))
        (low, low_mb), (high, high_mb) = next((pair for pair in points if runs < pair[1][0]), points[-1])
        estimated = low_mb + (runs - low) * (high_mb - low_mb) / (high - low)
        how = "interpolated" if runs < high else "extrapolated"
        return estimated, f"{how}: {low} and {high} runs were measured"


MEASURED = Measured()


@dataclass(frozen=True)
class Size:
    """What a number of concurrent runs needs: by the guide's formulas, and by what was measured.

    `slots` are the runs that the lanes then admit, of which `worker_mb` is.
    """

    runs: int
    slots: int
    workers: int
    cores: float
    gb: float
    tier: Tier | None
    lane_limit: int
    worker_mb: float
    worker_mb_known: str
    sync_mb: float
    others_mb: float
    cpu_seconds_per_run: float


def size_for(runs: int) -> Size:
    """The size for that many runs at once, from 1 to MOST_RUNS. `tier` is the smallest that is enough, if one is."""
    workers = math.ceil(runs / RUNS_PER_WORKER)
    cores, gb = workers / 2, workers * GB_PER_WORKER + GB_FOR_SYSTEM
    enough = [tier for tier in TIERS.values() if tier.runs >= runs and tier.vcpus >= cores and tier.gb >= gb]
    lane_limit = math.ceil(runs / LANES)
    slots = lane_limit * LANES
    worker_mb, known = MEASURED.estimate(slots)
    return Size(
        runs=runs,
        slots=slots,
        workers=workers,
        cores=cores,
        gb=gb,
        tier=min(enough, key=lambda tier: tier.runs, default=None),
        lane_limit=lane_limit,
        worker_mb=round(worker_mb),
        worker_mb_known=known,
        sync_mb=MEASURED.sync_mb,
        others_mb=MEASURED.others_mb,
        cpu_seconds_per_run=MEASURED.cpu_seconds_per_run,
    )
