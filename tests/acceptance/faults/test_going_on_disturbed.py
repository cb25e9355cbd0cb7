"""Attempts that go on while parts are away, others do the same, and people change their minds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Scheduled, Suspended

from opsdb.runs.lookup import short_id
from opsdb.states import RESUMING
from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.acceptance.faults.runs import AFTER, BEFORE, done, failing, lane_closed, ops, steps, wait_asking
from tests.support.waiting import wait_for


@pytest.fixture
def stop(tmp_path: Path) -> Path:
    """While `stop.STEP` is there that step fails, while `stop.hang.STEP` is it hangs."""
    return tmp_path / "stop"


def alerts(lab: Lab) -> set[str]:
    return {row["rule"] for row in lab.rows("SELECT rule FROM ops.alert_episodes WHERE rule <> 'approval'")}


def test_run_asks_when_prefect_is_back_and_is_not_called_lost_meanwhile(lab: Lab, start: Start, stop: Path) -> None:
    hang = failing(stop, "hang.build")
    run = start("asking", odoo_db="away", fail_at=str(stop))
    lab.wait_effect(run, "build")
    lab.kill("prefect")
    hang.unlink()
    time.sleep(lab.settings.timings.lost + 2)
    row = lab.run_row(run)
    assert (row["status"], row["fenced_at"]) == ("running", None)
    lab.start_prefect()
    wait_asking(lab, run, seconds=60)
    ops(lab, "approve", str(run))
    lab.wait_status(run, "succeeded")
    assert done(lab, run) == AFTER


def test_approval_does_not_hold_for_what_one_changed_that_had_waited_for_it(
    lab: Lab, start: Start, stop: Path, client: SyncPrefectClient
) -> None:
    hang = failing(stop, "hang.build")
    first = start("asking", odoo_db="queue", fail_at=str(stop))
    lab.wait_effect(first, "build")
    second = start("asking", odoo_db="queue", seconds=0)  # begins before the first has done its last step
    lab.wait_status(second, "running")
    hang.unlink()
    wait_asking(lab, first)
    lab.wait_status(second, "succeeded")
    assert f"run {short_id(second)} did the same" in ops(lab, "approve", str(first), code=2)
    client.resume_flow_run(first)  # the button in Prefect's UI asks nobody
    assert f"run {short_id(second)} did the same" in lab.wait_status(first, "failed")["error"]["message"]
    assert done(lab, first) == BEFORE


def test_of_two_that_both_wait_for_approval_the_one_that_looked_last_goes_on(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    first, second = start("asking", odoo_db="two"), None
    wait_asking(lab, first)
    second = start("asking", odoo_db="two")
    wait_asking(lab, second)
    client.resume_flow_run(first)
    assert f"run {short_id(second)} did the same" in lab.wait_status(first, "failed")["error"]["message"]
    ops(lab, "approve", str(second))
    lab.wait_status(second, "succeeded")
    assert done(lab, first) == BEFORE
    assert done(lab, second) == AFTER


def test_approval_that_was_cancelled_is_not_used_by_the_next_attempt(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    run = start("asking", odoo_db="twice")
    wait_asking(lab, run)
    with lane_closed(client):
        ops(lab, "approve", str(run))
        ops(lab, "cancel", str(run), "--wait")
        lab.wait_status(run, "cancelled")
        ops(lab, "retry", str(run), "--from-failed")
    wait_for(lambda: steps(lab, run).get(3, {}).get("ask") == "suspended", seconds=30, what="it asks once more")
    ops(lab, "cancel", str(run), "--wait")
    lab.wait_status(run, "cancelled")
    ops(lab, "retry", str(run))  # all of its steps
    wait_for(lambda: any("build/5" in effect for effect in done(lab, run)), seconds=30, what="it builds once more")
    wait_for(lambda: steps(lab, run)[5].get("ask") == "suspended", seconds=30, what="it asks a third time")
    assert done(lab, run) == [*BEFORE, "prepare/5", "build/5"]
    ops(lab, "cancel", str(run), "--wait")


def test_what_stands_outlives_an_attempt_that_failed_before_it_came_so_far(lab: Lab, start: Start, stop: Path) -> None:
    broken = failing(stop, "deploy")
    run = start("asking", odoo_db="early", seconds=0, fail_at=str(stop))
    lab.wait_status(run, "failed")
    missing = failing(stop, "check")
    ops(lab, "retry", str(run), "--from-failed", "--wait", code=1)
    assert steps(lab, run)[2] == {"check": "failed"}
    missing.unlink()
    broken.unlink()
    ops(lab, "retry", str(run), "--from-failed", "--wait")
    assert done(lab, run) == [*BEFORE, "deploy/1", "deploy/3", "tell/3"]


def test_second_approval_changes_nothing(lab: Lab, start: Start, stop: Path, client: SyncPrefectClient) -> None:
    hang = failing(stop, "hang.deploy")
    run = start("asking", odoo_db="again", fail_at=str(stop))
    wait_asking(lab, run)
    ops(lab, "approve", str(run))
    lab.wait_effect(run, "deploy", attempt=2)
    again = Scheduled(name=RESUMING, scheduled_time=datetime.now(UTC), message="approved by another")  # type: ignore[var-annotated]
    client.set_flow_run_state(run, again)
    time.sleep(2)
    assert lab.living(run)
    hang.unlink()
    assert lab.wait_status(run, "succeeded")["attempt"] == 2
    assert done(lab, run) == AFTER


def test_suspended_from_outside_it_goes_on_and_asks_all_the_same(
    lab: Lab, start: Start, stop: Path, client: SyncPrefectClient
) -> None:
    hang = failing(stop, "hang.build")
    run = start("asking", odoo_db="outside", fail_at=str(stop))
    lab.wait_effect(run, "build")
    with pytest.raises(PrefectHTTPStatusError, match="cannot be paused: its step keeps running"):
        client.set_flow_run_state(run, Suspended(timeout_seconds=3600), force=True)
    hang.unlink()
    wait_for(lambda: steps(lab, run).get(1, {}).get("ask") == "suspended", seconds=20, what="it asks")
    lab.wait_status(run, "queued")
    ops(lab, "approve", str(run))
    lab.wait_status(run, "succeeded")
    assert done(lab, run) == AFTER
