"""What can be said of any result."""

from __future__ import annotations

from flows.engine.facts import MOST_VALUES, listed, result_facts


def test_values_stand_by_their_names_in_units_that_people_read() -> None:
    result = {
        "size_bytes": 1_300_000,
        "duration_seconds": 4.13,
        "file": "a|b`c",
        "none": None,
        "pruned": [],
        "on": True,
    }
    assert list(result_facts({}, result).rows) == [
        ("size", "1.3 MB"),
        ("duration", "4.1 s"),
        ("file", "``a\u2502b`c``"),
        ("on", "`True`"),
    ]


def test_long_results_are_bounded() -> None:
    facts = result_facts({}, {f"value_{number}": "x" * 10_000 for number in range(100)})
    assert len(facts.rows) == MOST_VALUES
    assert max(len(value) for _, value in facts.rows) < 400
    assert listed(range(MOST_VALUES + 5)).endswith(" and 5 more")
