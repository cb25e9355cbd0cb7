"""What may differ between a database and its restored copy, and what may not."""

from __future__ import annotations

import pytest

from flows.backup.contents import summary
from flows.backup.manifest import SequenceValue


@pytest.mark.parametrize(
    ("before", "after", "found", "allowed"),
    [
        ((5, True), (5, True), (5, True), True),
        ((5, True), (5, True), (5, False), False),
        ((5, True), (5, True), (6, True), False),
        ((5, True), (9, True), (7, True), True),
        ((5, True), (9, True), (10, True), False),
        ((9, True), (5, True), (7, True), True),  # one that counts down
        ((1, False), (2, True), (1, True), True),
    ],
)
def test_sequence_may_stand_where_it_stood_during_the_dump(
    before: tuple[int, bool], after: tuple[int, bool], found: tuple[int, bool], allowed: bool
) -> None:
    assert SequenceValue(before=before, after=after).allows(found) is allowed


def test_message_names_three_differences_and_counts_the_rest() -> None:
    assert summary(["a", "b"]) == "a, b"
    assert summary(["a", "b", "c", "d", "e"]) == "a, b, c, and 2 more"
