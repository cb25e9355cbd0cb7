"""Attempts that go on where another ended: after a failure, and when somebody approved."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate

from cli.account import account
from opsdb.runs.lookup import short_id
from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.acceptance.faults.runs import done, events, failing, ops, shown, steps, wait_asking
from tests.support.waiting import wait_for


@pytest.fixture
def stop(tmp_path: Path) -> Path:
    """While `stop.STEP` is there that step fails."""
    return tmp_path / "stop"


def test_retry_from_failed_does_the_rest_only_and_gives_back_what_was_found(lab: Lab, start: Start, stop: Path) -> None:
    broken = failing(stop, "deploy")
    failing(stop, "once.build")  # and succeeds when it is tried again
    run = start("asking", odoo_db="rest", seconds=0, fail_at=str(stop))
    lab.wait_status(run, "failed")
    for attempt in (2, 3):  # the second fails as well: what the first did stands in the third
        if attempt == 3:
            broken.unlink()
        said = ops(lab, "retry", str(run), "--from-failed")
        assert "Not done again: check, prepare, count, build." in said
        wait_for(lambda: max(steps(lab, run)) == attempt, seconds=20, what=f"attempt {attempt} has begun")  # noqa: B023  # called at once
        row = lab.wait_status(run, "succeeded" if attempt == 3 else "failed")
    kept = {"check": "succeeded", "prepare": "skipped", "count": "skipped", "build": "skipped"}
    assert steps(lab, run)[2] == {**kept, "deploy": "failed"}
    assert steps(lab, run)[3] == {**kept, "deploy": "succeeded", "tell": "succeeded"}
    assert done(lab, run) == ["prepare/1", "build/1", "build/1", "deploy/1", "deploy/2", "deploy/3", "tell/3"]
    assert row["result"]["counted"] == {"attempt": 1}
    assert [line.strip() for line in row["result"]["said"]] == [
        "prepare of attempt 1",
        "build of attempt 1",
        "deploy of attempt 3",
        "tell of attempt 3",
    ]
    assert any("retried from its failed step by" in (s["message"] or "") for s in shown(lab, run)["states"])


def test_retry_from_failed_is_refused_where_what_was_done_does_not_stand(lab: Lab, start: Start, stop: Path) -> None:
    broken = failing(stop, "deploy")
    run = start("asking", odoo_db="same", seconds=0, fail_at=str(stop))
    bound = start("asking", odoo_db="bound", seconds=0, fail_at=str(stop), bound=True)
    lab.wait_status(run, "failed")
    lab.wait_status(bound, "failed")
    refused = ops(lab, "retry", str(bound), "--from-failed", code=2)
    assert "step 2, prepare, succeeded and must run again" in refused
    lab.rows("UPDATE ops.run_steps SET definition = 'another' WHERE run_id = %s RETURNING 1 AS done", run)
    assert "the runbook asking has changed" in ops(lab, "retry", str(run), "--from-failed", code=2)
    lab.rows(
        "UPDATE ops.run_steps s SET definition = o.definition FROM ops.run_steps o"
        " WHERE s.run_id = %s AND o.run_id = %s RETURNING 1 AS done",
        run,
        bound,
    )
    broken.unlink()
    other = start("asking", odoo_db="same", seconds=0, fail_at=str(stop))
    lab.wait_status(other, "succeeded")
    refused = ops(lab, "retry", str(run), "--from-failed", code=2)
    assert f"run {short_id(other)} did the same to odoo_db same" in refused
    assert lab.run_row(run)["attempt"] == 1
    ops(lab, "retry", str(run))  # from its start it may
    assert lab.wait_status(run, "succeeded")["attempt"] == 2
    assert done(lab, run)[-4:] == ["prepare/2", "build/2", "deploy/2", "tell/2"]


def test_worker_refuses_what_changed_after_the_retry_was_asked_for(lab: Lab, start: Start, stop: Path) -> None:
    failing(stop, "deploy")
    run = start("asking", odoo_db="late", seconds=0, fail_at=str(stop))
    lab.wait_status(run, "failed")
    lab.kill("worker", signal.SIGTERM)
    ops(lab, "retry", str(run), "--from-failed")
    lab.rows("UPDATE ops.run_steps SET definition = 'another' WHERE run_id = %s RETURNING 1 AS done", run)
    lab.start_worker()
    wait_for(lambda: lab.run_row(run)["attempt"] == 2, seconds=20, what="another attempt")
    row = lab.wait_status(run, "failed")
    assert "has changed since its steps ran" in row["error"]["message"]
    assert done(lab, run) == ["prepare/1", "build/1", "deploy/1"]


@pytest.fixture
def one_slot(client: SyncPrefectClient) -> Iterator[None]:
    """Lane A executes one run at a time."""
    client.update_work_pool("lane-a", WorkPoolUpdate(concurrency_limit=1))
    yield
    client.update_work_pool("lane-a", WorkPoolUpdate(concurrency_limit=8))


@pytest.mark.usefixtures("one_slot")
def test_approval_frees_the_slot_and_what_was_held_and_who_gave_it_is_told(lab: Lab, start: Start) -> None:
    run = start("asking", odoo_db="free")
    wait_asking(lab, run)
    other = start("alone", odoo_db="free")
    lab.wait_status(other, "succeeded")
    waits = shown(lab, run)["waits_for"]
    assert waits[0].startswith("it waits for approval until ")
    assert waits[0].endswith("deploy free?")
    assert waits[1] == f"ops approve {short_id(run)} resumes it, ops cancel {short_id(run)} ends it"
    assert done(lab, run) == ["prepare/1", "build/1"]
    assert "not over" in ops(lab, "retry", str(run), code=2)
    ops(lab, "approve", str(run))
    row = lab.wait_status(run, "succeeded")
    assert row["attempt"] == 2
    assert done(lab, run) == ["prepare/1", "build/1", "deploy/2", "tell/2"]
    kept = dict.fromkeys(("prepare", "count", "build"), "skipped")
    assert steps(lab, run) == {
        1: {**dict.fromkeys(("check", "prepare", "count", "build"), "succeeded"), "ask": "suspended"},
        2: {**kept, **dict.fromkeys(("check", "ask", "deploy", "tell"), "succeeded")},
    }
    assert not lab.rows("SELECT 1 AS ok FROM ops.step_results WHERE run_id = %s", run)  # nobody needs them any more
    assert [event for event in events(lab, run) if "approved" in event] == [
        f"approved by {account()} with `ops approve`"
    ]
    assert "is not waiting for approval" in ops(lab, "approve", str(run), code=2)


def test_who_waits_for_approval_outlives_its_worker_and_the_limits_for_lost_runs(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    run = start("asking", odoo_db="patient")
    wait_asking(lab, run)
    lab.kill("worker")
    time.sleep(lab.settings.timings.claim + 1)
    assert lab.run_row(run)["status"] == "queued"
    # as the room recorded it before runbooks had versions
    lab.rows("UPDATE ops.run_steps SET definition = %s WHERE run_id = %s RETURNING 1 AS done", "a" * 64, run)
    lab.start_worker()
    client.resume_flow_run(run)  # what the button in Prefect's UI does
    lab.wait_status(run, "succeeded")
    assert done(lab, run) == ["prepare/1", "build/1", "deploy/2", "tell/2"]
    assert "approved in Prefect's UI or over its API" in events(lab, run)
    assert not lab.rows("SELECT 1 AS ok FROM ops.alert_episodes WHERE run_id = %s AND rule <> 'approval'", run)


def test_approval_that_nobody_gives_in_time_ends_the_run(lab: Lab, start: Start) -> None:
    run = start("asking", odoo_db="late", seconds=2)
    row = lab.wait_status(run, "failed", seconds=60)
    assert "nobody approved in time: it waits for approval until" in row["error"]["message"]
    assert "is not waiting for approval" in ops(lab, "approve", str(run), code=2)
    assert done(lab, run) == ["prepare/1", "build/1"]


def test_cancelled_instead_of_approved_it_never_goes_on(lab: Lab, start: Start) -> None:
    run = start("asking", odoo_db="no")
    wait_asking(lab, run)
    ops(lab, "cancel", str(run), "--wait")
    lab.wait_status(run, "cancelled")
    assert "is not waiting for approval" in ops(lab, "approve", str(run), code=2)
    assert done(lab, run) == ["prepare/1", "build/1"]


def test_approval_does_not_hold_for_what_another_run_changed_meanwhile(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    run = start("asking", odoo_db="both")
    wait_asking(lab, run)
    other = start("asking", odoo_db="both", seconds=0)
    lab.wait_status(other, "succeeded")
    told = f"run {short_id(other)} did the same to odoo_db both"
    refused = ops(lab, "approve", str(run), code=2)
    assert told in refused
    assert f"`ops cancel {short_id(run)}`" in refused
    client.resume_flow_run(run)  # the button in Prefect's UI asks nobody
    row = lab.wait_status(run, "failed")
    assert told in row["error"]["message"]
    assert done(lab, run) == ["prepare/1", "build/1"]


def test_killed_after_its_approval_it_goes_on_without_asking_again(lab: Lab, start: Start, stop: Path) -> None:
    hang = failing(stop, "hang.deploy")
    run = start("asking", odoo_db="killed", fail_at=str(stop))
    wait_asking(lab, run)
    ops(lab, "approve", str(run))
    lab.wait_effect(run, "deploy", attempt=2)
    os.kill(lab.run_process(run), signal.SIGKILL)
    lab.wait_status(run, "failed")
    hang.unlink()
    ops(lab, "retry", str(run), "--from-failed")
    lab.wait_status(run, "succeeded")
    assert done(lab, run) == ["prepare/1", "build/1", "deploy/2", "deploy/3", "tell/3"]
    assert steps(lab, run)[3]["ask"] == "skipped"
