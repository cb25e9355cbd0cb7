"""What a run leaves half done is put back before the run is over, however it ends."""

from __future__ import annotations

import os
import signal
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Cancelling

from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.support.waiting import wait_for


def clean_in_time(lab: Lab, run: UUID) -> None:
    """All of it was put back, once, and nothing of it is alive."""
    assert [e.what for e in lab.effects(run) if e.what != "tick"] == ["first", "begin", "cleaning", "clean"]
    assert lab.living(run) == []
    assert lab.run_row(run)["result"] == {"clean": True}
    [event] = lab.rows("SELECT data FROM ops.run_events WHERE run_id = %s AND message = 'it was put back'", run)
    assert event["data"]["clean"] is True


@pytest.mark.promise(16)
def test_cancelled_run_has_put_back_before_it_is_over_though_that_takes_longer_than_cancelling(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    timings = lab.settings.timings
    run = start("leaving", seconds=60, put_back_seconds=timings.cancel + timings.reap + timings.stop)
    lab.wait_effect(run, "begin")
    client.set_flow_run_state(run, Cancelling(message="by the test"))
    row = lab.wait_status(run, "cancelled", seconds=30)
    assert row["fence_reason"] is None
    clean_in_time(lab, run)


def test_run_that_falls_silent_while_it_puts_back_is_not_waited_for(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    allowed = lab.settings.timings.put_back
    run = start("leaving", seconds=60, put_back_seconds=2 * round(allowed))
    lab.wait_effect(run, "begin")
    client.set_flow_run_state(run, Cancelling(message="by the test"))
    lab.wait_effect(run, "cleaning")
    lab.wait_status(run, "cancelled", seconds=allowed + 15)
    assert "clean" not in [e.what for e in lab.effects(run)]
    assert lab.living(run) == []


@pytest.mark.promise(16)
def test_killed_run_is_put_back_by_an_attempt_that_does_nothing_else(lab: Lab, start: Start) -> None:
    run = start("leaving", seconds=60)
    lab.wait_effect(run, "begin")
    os.kill(lab.run_process(run), signal.SIGKILL)
    wait_for(lambda: lab.run_row(run)["attempt"] == 2, seconds=30, what="the room begins another attempt")
    assert lab.wait_status(run, "failed")["error"]["message"] == "it is not repeated"
    clean_in_time(lab, run)
