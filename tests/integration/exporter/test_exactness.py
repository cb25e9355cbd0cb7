"""Counters are exact, whatever is killed."""

from __future__ import annotations

from opsdb.settings import Settings
from tests.integration.exporter.siege import besiege


def test_counters_equal_the_truth_and_never_go_back_while_the_folder_is_killed(settings: Settings) -> None:
    siege = besiege(settings, finishes=4000, seed=7)
    assert siege.went_back == []
    assert siege.wrong() == []
    assert siege.truth.total() == 4000
    assert siege.kills >= 2
    assert siege.scrapes >= 10
    assert siege.deleted > 0
