"""All that one run of the benchmark found."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.measures import Burst, Requests


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    bursts: tuple[int, ...] = (20, 100)
    rounds: int = 2
    concurrent: tuple[int, ...] = (4, 12, 40)
    cancels: int = 10
    counted: int = 10
    bash: int = 500
    budget_seconds: float = 14 * 60


QUICK = Sizes(bursts=(4, 10), rounds=1, concurrent=(2, 4), cancels=2, counted=4, bash=100)


@dataclass
class Results:
    """All figures, by the name of the system."""

    sizes: Sizes
    bursts: dict[tuple[str, int], list[Burst]] = field(default_factory=dict)
    memory: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    cancels: dict[str, list[float]] = field(default_factory=dict)
    requests: dict[str, Requests] = field(default_factory=dict)
    bash: dict[int, float] = field(default_factory=dict)
    plain: Burst | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def median(self, system: str, runs: int, of: Callable[[Burst], float]) -> float:
        """The median over the rounds of a figure of a burst."""
        return statistics.median(of(burst) for burst in self.bursts[system, runs])
