"""How far a step is: bytes done, of how many, how fast."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from opsdb.amounts import seconds, size

WINDOW_SECONDS = 20.0
"""The rate is that of this last period."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a step is."""

    done_bytes: int
    total_bytes: int | None = None
    """What it will be at the end; None where nobody knows."""
    estimated: bool = False
    """The total is what the last run took."""
    bytes_per_second: float | None = None

    @property
    def percent(self) -> int | None:
        """At most 99, since it is not over. None for more bytes than were estimated, and where nobody knows."""
        if not self.total_bytes or (self.estimated and self.done_bytes > self.total_bytes):
            return None
        return min(99, 100 * self.done_bytes // self.total_bytes)

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where that says nothing."""
        left = (self.total_bytes or 0) - self.done_bytes
        return left / self.bytes_per_second if self.bytes_per_second and left > 0 else None

    @property
    def columns(self) -> dict[str, Any]:
        """As `ops.run_steps.progress` has it."""
        return asdict(self)

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Self:
        """From there."""
        return cls(**columns)

    def __str__(self) -> str:
        """For people: `412.0 MB  63 % of about 654.0 MB  38.2 MB/s  11 s left`."""
        said = [size(self.done_bytes)]
        about = "about " if self.estimated else ""
        if self.percent is not None:
            said.append(f"{self.percent} % of {about}{size(self.total_bytes)}")
        elif self.total_bytes:
            said.append(f"more than the {size(self.total_bytes)} of last time")
        if self.bytes_per_second is not None:
            said.append(f"{size(self.bytes_per_second)}/s")
        if self.seconds_left is not None:
            left = self.seconds_left
            said.append(f"{seconds(left) if left >= 60 else f'{max(1, round(left))} s'} left")
        return "  ".join(said)


class Pace:
    """How fast something advances, by what was seen of it one time after another."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def paced(self, progress: Progress, *, at: float) -> Progress:
        """The progress with its rate; `at` is in seconds. What begins again has none at first."""
        if self._seen and progress.done_bytes < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((at, progress.done_bytes))
        while len(self._seen) > 2 and self._seen[1][0] <= at - WINDOW_SECONDS:
            self._seen.popleft()
        since, done = self._seen[0]
        rate = (progress.done_bytes - done) / (at - since) if at > since else None
        return replace(progress, bytes_per_second=rate)
