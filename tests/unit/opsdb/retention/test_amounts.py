"""How much is too much, and what sums say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opsdb.retention.amounts import Amount, Amounts, oldest_kept

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return NOW - timedelta(days=number)


def test_the_oldest_goes_until_the_rest_has_a_place() -> None:
    sizes = [(day(3), 40), (day(1), 40), (day(2), 40)]
    assert oldest_kept(sizes, limit_bytes=120) is None
    assert oldest_kept(sizes, limit_bytes=119) == day(2)
    assert oldest_kept(sizes, limit_bytes=79) == day(1)


def test_the_newest_stays_however_large_it_is() -> None:
    assert oldest_kept([(day(1), 500), (day(2), 1)], limit_bytes=10) == day(1)
    assert oldest_kept([(day(1), 500)], limit_bytes=10) is None
    assert oldest_kept([], limit_bytes=10) is None


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100)), max_size=30), st.integers(0, 1000))
def test_what_is_kept_has_a_place_or_is_of_the_newest_time(found: list[tuple[int, int]], limit: int) -> None:
    sizes = [(day(number), size) for number, size in found]
    kept = oldest_kept(sizes, limit_bytes=limit)
    left = [(at, size) for at, size in sizes if kept is None or at >= kept]
    assert sum(size for _, size in left) <= limit or len({at for at, _ in left}) <= 1


def test_sums_have_the_oldest_time_and_leave_out_what_there_is_nothing_of() -> None:
    amounts = Amounts()
    amounts.add("runs", Amount(count=1, bytes=10, oldest_at=day(2)))
    amounts.add("runs", Amount(count=2, bytes=5, oldest_at=day(9)))
    amounts.add("logs", Amount())
    assert amounts.document() == {"runs": {"count": 3, "bytes": 15, "oldest_at": day(9).isoformat()}}
    assert amounts.count == 3
