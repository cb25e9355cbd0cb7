"""How much of what was deleted, or would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Rows or files of one sort: how many, their bytes, and when the oldest was made."""

    count: int = 0
    bytes: int = 0
    oldest_at: datetime | None = None

    def __add__(self, other: Amount) -> Amount:
        times = [at for at in (self.oldest_at, other.oldest_at) if at is not None]
        return Amount(
            count=self.count + other.count, bytes=self.bytes + other.bytes, oldest_at=min(times, default=None)
        )


@dataclass(slots=True)
class Amounts:
    """The sum of each sort, in the order in which they came."""

    by_name: dict[str, Amount] = field(default_factory=dict)

    def add(self, name: str, amount: Amount) -> None:
        """Add to what is known of a sort."""
        self.by_name[name] = self.by_name.get(name, Amount()) + amount

    def add_all(self, others: Amounts) -> None:
        """Add all sorts of others."""
        for name, amount in others.by_name.items():
            self.add(name, amount)

    @property
    def count(self) -> int:
        """Of all sorts together."""
        return sum(one.count for one in self.by_name.values())

    def document(self) -> dict[str, Any]:
        """As JSON: by name `count`, `bytes` and `oldest_at`, without the sorts of which there is nothing."""
        return {
            name: {
                "count": one.count,
                "bytes": one.bytes,
                "oldest_at": one.oldest_at and one.oldest_at.isoformat(),
            }
            for name, one in self.by_name.items()
            if one.count
        }


def oldest_kept(sizes: Iterable[tuple[datetime, int]], *, limit_bytes: int) -> datetime | None:
    """From which time on things are kept so that all of them have at most that size; None when all have a place.

    `sizes` are the times and bytes of what there is, in any order. The newest always has a place.
    """
    at_once: Counter[datetime] = Counter()
    for at, size in sizes:
        at_once[at] += size
    taken = 0
    kept: datetime | None = None
    for at, size in sorted(at_once.items(), reverse=True):
        taken += size
        if kept is not None and taken > limit_bytes:
            return kept
        kept = at
    return None
