"""What `ops doctor` says of what is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cli.doctor.record import Old, judge_old, judge_pruning
from opsdb.retention.prunes import LastPrune
from opsdb.settings import Settings


def ended(*, hours: float) -> LastPrune:
    at = datetime(2026, 12, 1, tzinfo=UTC)
    return LastPrune(finished_at=at, age=timedelta(hours=hours), deleted={"record: runs": {"count": 1204}})


def test_room_that_deletes_is_well_until_no_pass_ends_for_two_days() -> None:
    assert judge_pruning(None).ok
    assert judge_pruning(ended(hours=30)).ok
    assert judge_pruning(ended(hours=30)).found.endswith("1,204 runs")
    late = judge_pruning(ended(hours=49))
    assert not late.ok
    assert "`ops db prune`" in late.advice


def test_room_that_deletes_nothing_is_told_what_would_go_until_somebody_decides() -> None:
    asked = judge_old(Settings(), Old(runs=1204, outputs=3))
    assert not asked.ok
    assert "1,204 runs ended over 90 days ago, and the output of 3 is over 30 days old" in asked.found
    assert "OPS_PRUNE=true" in asked.advice
    assert judge_old(Settings(), Old(runs=0, outputs=0)).ok
    assert judge_old(Settings(prune=False), Old(runs=1204, outputs=3)).ok
