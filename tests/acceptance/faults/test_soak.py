"""The quick part of the soak: runs while workers and run processes are killed at random."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.lab import Lab
from tests.acceptance.faults.soak import Soak, start_worker
from tests.acceptance.faults.soak_account import report


@pytest.mark.own_worker  # two of them, on ports of their own
@pytest.mark.timeout(1500)
@pytest.mark.soak
def test_random_kills_lose_nothing(lab: Lab) -> None:
    kills = 10
    for name in ("worker", "worker2"):
        start_worker(lab, name)
    account = Soak(lab, runs=200, kills=kills, servers_too=False, seed=1).run(limit_seconds=1200)
    print(report(account))
    lab.kill("worker2")
    assert account.offenders == {}
    assert len(account.kills) == kills
    assert max(account.found_seconds, default=0) < 2 * lab.settings.timings.lost
