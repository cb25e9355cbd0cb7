from __future__ import annotations

from datetime import timedelta

import pytest

from opsdb.schedules.catch_up import DEFAULT, CatchUp, Mode, read_catch_up


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("skip", CatchUp(Mode.SKIP)),
        (" ALL ", CatchUp(Mode.ALL)),
        ("once within 2h", DEFAULT),
        ("Once  within 90m", CatchUp(Mode.ONCE, timedelta(minutes=90))),
        ("once within 1d", CatchUp(Mode.ONCE, timedelta(days=1))),
    ],
)
def test_rules_are_read_and_written_alike(text: str, rule: CatchUp) -> None:
    assert read_catch_up(text) == rule
    assert read_catch_up(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected skip, all, or"),
        ("once", "expected skip, all, or"),
        ("within 2h", "expected skip, all, or"),
        ("once within 2", "expected skip, all, or"),
        ("once within 2h30m", "expected skip, all, or"),
        ("once within -2h", "expected skip, all, or"),
        ("once within 4m", "between 5m and 30d"),
        ("once within 31d", "between 5m and 30d"),
        ("once within 99999d", "between 5m and 30d"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_would_be_right(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_catch_up(text)
