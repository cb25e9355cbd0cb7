"""Buckets as the database has them become a histogram as Prometheus wants it."""

from __future__ import annotations

from decimal import Decimal
from math import inf

from exporter.metrics.totals import histogram


def test_histogram_is_cumulated_in_order_whatever_order_the_buckets_come_in() -> None:
    buckets, total = histogram([(inf, 1, Decimal(90)), (1.0, 2, Decimal("1.5")), (5.0, 3, Decimal(9))], (1, 2.5, 5))
    assert buckets == [("1.0", 2), ("2.5", 2), ("5.0", 5), ("+Inf", 6)]
    assert total == 100.5


def test_bucket_with_a_bound_that_is_no_longer_used_counts_in_the_next_one() -> None:
    buckets, _ = histogram([(3.0, 4, Decimal(8))], (1, 5))
    assert buckets == [("1.0", 0), ("5.0", 4), ("+Inf", 4)]


def test_histogram_of_nothing_is_all_zero() -> None:
    assert histogram([], (1,)) == ([("1.0", 0), ("+Inf", 0)], 0)
