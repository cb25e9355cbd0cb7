"""The parts of PromQL that the panels are put together from.

Several replicas of the exporter tell the same: `max without (instance)` counts them once.
"""

from __future__ import annotations

QUEUED = 'status="queued"'
RUNNING = 'status="running"'


def series(name: str, *matchers: str) -> str:
    """The series of a metric that match."""
    return f"{name}{{{', '.join(matchers)}}}" if matchers else name


def once(name: str, *matchers: str) -> str:
    """The matching series of one exporter."""
    return f"max without (instance) ({series(name, *matchers)})"


def rate(counter: str, *matchers: str) -> str:
    """How fast the matching counters rise, per second."""
    return f"max without (instance) (rate({series(counter, *matchers)}[$__rate_interval]))"


def quantile(part: float, buckets: str, *matchers: str, by: str = "le") -> str:
    """The value below which that part of what a histogram saw lies."""
    return f"histogram_quantile({part}, sum by ({by}) ({rate(buckets, *matchers)}))"


def since(name: str, *matchers: str, by: str = "") -> str:
    """Seconds since the earliest of the matching times; nothing where none is known (0)."""
    return f"time() - min by ({by}) ({series(name, *matchers)} > 0)"


def age(name: str, *matchers: str) -> str:
    """Seconds since each of the matching times; nothing where none is known (0)."""
    return f"time() - max without (instance) ({series(name, *matchers)} > 0)"
