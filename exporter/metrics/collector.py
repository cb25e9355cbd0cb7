"""What a collector is: one SQL statement, and the metric families that its rows become.

To add one: a module with a `Collector`, and its name in `exporter.metrics.scrape.COLLECTORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import Metric

Row = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the exporter knows without the database."""

    kinds: tuple[str, ...] = ()
    """The registered kinds: their series are there, at zero, before their first run."""
    lanes: tuple[str, ...] = ("A", "B", "C", "D")
    lane_limit: int = 3
    lost_seconds: float = 30.0
    backup_objective: int = 28
    prunes: bool | None = None
    """Whether it prunes by itself; None where that is as the room was made."""


@dataclass(frozen=True)
class Collector:
    """One statement of a scrape. `sql` may use `%(lost_seconds)s`; `families` gets all its rows."""

    name: str
    sql: str
    families: Callable[[Sequence[Row], Room], Iterable[Metric]]
