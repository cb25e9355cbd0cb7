"""When a message is tried again, and how thresholds are read."""

from __future__ import annotations

import random

import pytest

from opsdb.alerts.episodes import Rule
from opsdb.alerts.outbox import Failure, wait_seconds
from opsdb.alerts.thresholds import EXAMPLE, OFF, parse_thresholds
from opsdb.errors import UsageError

DOWN = Failure(reason="connection")
HANG_SECONDS = 15.0
POLL_SECONDS = 1.0


def test_waits_grow_from_5_s_to_15_min() -> None:
    first = [wait_seconds(1, DOWN) for _ in range(200)]
    assert 4.5 <= min(first) < max(first) <= 5.5
    assert max(wait_seconds(500, DOWN) for _ in range(200)) <= 990
    assert wait_seconds(500, DOWN) > 800


@pytest.mark.parametrize("attempt_seconds", [0.0, HANG_SECONDS], ids=["refuses", "hangs"])
def test_after_10_minutes_down_it_arrives_within_a_minute_of_the_return(attempt_seconds: float) -> None:
    random.seed(5)
    for _ in range(300):
        now, attempt, tries = 0.0, 0, list[float]()
        while now < 1300:
            attempt += 1
            tries.append(now)
            now += attempt_seconds + wait_seconds(attempt, DOWN) + POLL_SECONDS
        returns = random.uniform(600, 1200)
        assert min(at for at in tries if at >= returns) - returns < 60


def test_what_is_asked_for_is_waited() -> None:
    asked = Failure(reason="rate_limited", http_status=429, retry_after_seconds=300)
    assert wait_seconds(1, asked) == 300


def test_configuration_errors_are_tried_seldom() -> None:
    assert wait_seconds(1, Failure(reason="configuration", lasting=True, http_status=403)) > 800


def test_thresholds_are_read() -> None:
    read = parse_thresholds(EXAMPLE)
    assert read.rules[Rule.QUEUED] == 900
    assert read.kinds_of(Rule.QUEUED) == {"odoo_db_backup": 7200}
    assert (read.rules[Rule.LEFTOVERS], read.rules[Rule.FAILED]) == (OFF, OFF)
    assert read.off(Rule.LEFTOVERS)
    assert not read.off(Rule.FAILED)


def test_what_runs_unattended_has_a_threshold_unless_another_is_given() -> None:
    kinds = ("nightly_backup", "odoo_db_backup", "odoo_restore_drill", "odoo_staging_copy")
    unattended = dict.fromkeys(kinds, 30.0)
    assert parse_thresholds("").kinds_of(Rule.FAILED) == unattended
    one_off = parse_thresholds("failed:odoo_db_backup=off failed:k=5").kinds_of(Rule.FAILED)
    assert one_off == unattended | {"odoo_db_backup": OFF, "k": 5}
    assert parse_thresholds("failed=off").off(Rule.FAILED)
    assert parse_thresholds("failed:k=5 failed=60").kinds_of(Rule.FAILED) == {"k": 5}


@pytest.mark.parametrize(
    "wrong", ["queued", "queued=", "queued=soon", "queued=-1", "queued=nan", "nope=1", "stuck=1", "backup:k=1", "=1"]
)
def test_wrong_threshold_is_named(wrong: str) -> None:
    with pytest.raises(UsageError, match="OPS_ALERT_THRESHOLDS"):
        parse_thresholds(f"backup=90000 {wrong}")
