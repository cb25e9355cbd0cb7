"""How long an upgrade may take when nobody says."""

from __future__ import annotations

import pytest

from flows.odoo.time_limit import usual_minutes


@pytest.mark.parametrize(
    ("gigabytes", "seconds", "minutes"),
    [
        (0.07, [], 15),
        (0.07, [187], 15),
        (0.07, [60, 601, 30], 31),
        (50, [60], 100),
        (50, [3600], 180),
        (5000, [], 240),
    ],
)
def test_limit_follows_the_size_and_the_longest_of_the_last(
    gigabytes: float, seconds: list[float], minutes: int
) -> None:
    assert usual_minutes(size_bytes=int(gigabytes * 1e9), earlier_seconds=seconds) == minutes
