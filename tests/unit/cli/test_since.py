from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cli.since import read_since
from opsdb.errors import UsageError


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        (" 7d ", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T02:30", datetime(2026, 11, 23, 2, 30, tzinfo=UTC)),
        ("2026-11-23 02:30", datetime(2026, 11, 23, 2, 30, tzinfo=UTC)),
    ],
)
def test_lengths_and_dates_are_read(words: str, meant: object) -> None:
    assert read_since(words) == meant


@pytest.mark.parametrize("words", ["", "7", "d", "7 days", "-7d", "7y", "2026-13-01", "2026-11-23T25:00", "yesterday"])
def test_anything_else_is_refused_as_typed(words: str) -> None:
    with pytest.raises(UsageError, match="expected a length such as 30m") as refused:
        read_since(words)
    assert repr(words) in str(refused.value)
