"""Ends that somebody waits for: each is reported, once, to those who have to know."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from opsdb.alerts import rules
from opsdb.alerts.episodes import Rule, open_fenced
from opsdb.alerts.incidents import Draft, write_messages
from opsdb.alerts.outbox import Level, forget_others
from opsdb.alerts.rules import apply_rules
from tests.support.alerts_lab import Lab, message
from tests.support.reports import written


@pytest.fixture
def lab(engine: Engine) -> Lab:
    return Lab(engine, "failed=0")


def dead(lab: Lab, **columns: Any) -> UUID:
    """A run that died, and whose alert begins."""
    run_id = lab.run(fence_reason="HeartbeatTimeout", **columns)
    with lab.engine.begin() as db:
        open_fenced(db, [run_id])
    return run_id


def told(lab: Lab) -> list[tuple[str, str, str, int]]:
    lab.cycle()
    lab.pass_seconds(6)
    return lab.cycle()


@pytest.mark.promise(15)
def test_run_that_failed_is_reported_though_another_of_its_lane_lasts(lab: Lab) -> None:
    lost, lasting = dead(lab, name="lost"), dead(lab, name="lasting")
    assert told(lab) == [("firing", "stuck", "A", 2)]
    lab.finish(lost)
    lab.cycle()
    lab.pass_seconds(301)
    assert lab.cycle() == [("ended", "stuck", "A", 1)]
    said = written(lab.reports[-1])
    assert said.title == "🚨 Ended In Failure: Stuck Run Detected: lost"
    assert lab.cycle() == []
    lab.finish(lasting, "succeeded")
    assert lab.cycle() == [("resolved", "stuck", "A", 1)]
    assert written(lab.reports[-1]).title == "✅ Resolved: Stuck Run Detected: lasting"


def test_answer_is_reported_at_once_though_another_question_waits(lab: Lab) -> None:
    asking = [lab.run(status="queued", state="PAUSED", state_name="Suspended") for _ in range(2)]
    lab.sql("UPDATE ops.run_states SET message = 'waits for approval until 2030-01-01 00:00:00 UTC: really?'")
    assert told(lab) == [("firing", "approval", "A", 2)]
    lab.set(asking[0], "status = 'running'")
    lab.sql("UPDATE ops.run_states SET type = 'RUNNING' WHERE run_id = :id", id=asking[0])
    assert lab.cycle() == [("ended", "approval", "A", 1)]


def test_run_that_dies_three_times_is_one_run(lab: Lab) -> None:
    run_id = dead(lab, max_attempts=3)
    for attempt in (2, 3):
        lab.set(run_id, f"attempt = {attempt}")
        with lab.engine.begin() as db:
            open_fenced(db, [run_id])
    assert told(lab) == [("firing", "stuck", "A", 1)]
    assert lab.reports[-1].kinds == {"k": 1}
    [subject] = lab.reports[-1].subjects
    assert subject.facts["attempt"] == 3


@pytest.mark.promise(15)
def test_end_begins_with_what_failed(lab: Lab) -> None:
    runs = [dead(lab, name=f"run {number}") for number in range(12)]
    assert told(lab) == [("firing", "stuck", "A", 12)]
    for run_id in runs:
        lab.finish(run_id, "failed" if run_id == runs[-1] else "succeeded")
    assert lab.cycle() == [("resolved", "stuck", "A", 12)]
    said = written(lab.reports[-1])
    assert lab.reports[-1].subjects[0].run_id == runs[-1]
    assert said.level is Level.CRITICAL
    assert f"`ops retry {str(runs[-1])[-8:]}`" in said.body


def test_failure_whose_run_is_tried_again_lasts_until_that_is_over(lab: Lab) -> None:
    run_id = lab.run(kind="k")
    lab.finish(run_id)
    assert told(lab) == [("firing", "failed", "A", 1)]
    lab.set(run_id, "status = 'running', attempt = 2, finished_at = NULL, outcome = NULL")
    lab.cycle()
    lab.pass_seconds(601)
    assert lab.cycle() == []
    lab.finish(run_id, "succeeded")
    lab.cycle()
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "failed", "A", 1)]
    assert written(lab.reports[-1]).level is Level.SUCCESS


@pytest.mark.promise(15)
def test_failed_run_that_somebody_sets_to_completed_is_not_green(lab: Lab) -> None:
    failed, fenced = lab.run(kind="k"), dead(lab)
    lab.finish(failed)
    assert {rule for _, rule, *_ in told(lab)} == {"failed", "stuck"}
    for run_id in (failed, fenced):
        lab.mark(run_id)
    lab.cycle()
    lab.pass_seconds(601)
    lab.cycle()
    ends = [report for report in lab.reports if report.event == "resolved"]
    assert {written(one).level for one in ends} == {Level.INFO}
    assert len(ends) == 2


def test_backup_alert_that_is_turned_off_is_not_resolved_in_green(lab: Lab) -> None:
    params = json.dumps({"odoo_db": "odoo_prod"})
    lab.finish(lab.run(kind="odoo_db_backup", params=params, age=100_000), "cancelled")
    assert told(lab) == [("firing", "backup", "room", 1)]
    lab.sql("UPDATE ops.alert_episodes SET resolved_at = clock_timestamp() WHERE rule = 'backup'")
    lab.sql("DELETE FROM ops.run_states")
    lab.sql("DELETE FROM ops.runs")
    lab.cycle()
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "backup", "room", 1)]
    assert written(lab.reports[-1]).level is Level.INFO


def test_failure_reported_as_stuck_is_not_reported_again_when_another_attempt_fails(lab: Lab) -> None:
    run_id = dead(lab, max_attempts=2)
    assert told(lab) == [("firing", "stuck", "A", 1)]
    lab.set(run_id, "attempt = 2")
    lab.finish(run_id)
    assert [rule for _, rule, *_ in [*lab.cycle(), *lab.cycle()]] == ["stuck"]
    lab.pass_seconds(60)
    assert lab.cycle() == []


@pytest.mark.promise(15)
def test_bad_end_reaches_a_destination_that_did_not_hear_the_beginning(lab: Lab) -> None:
    def write(_db: Any, report: Any) -> Draft:
        return Draft(message=written(report), destinations=lab.destinations)

    def cycle() -> None:
        with lab.engine.begin() as db:
            apply_rules(db, lab.thresholds)
            write_messages(db, write, anybody=True)

    run_id = dead(lab)
    cycle()
    lab.pass_seconds(6)
    cycle()
    lab.sql("UPDATE ops.alert_deliveries SET delivered_at = now()")
    lab.destinations = ["new"]
    lab.finish(run_id)
    cycle()
    found = "SELECT destination FROM ops.alert_deliveries d JOIN ops.alert_messages m ON m.id = d.message_id "
    assert [row.destination for row in lab.sql(f"{found} WHERE m.event = 'resolved'")] == ["new"]


def test_alert_that_ended_unheard_at_a_wrong_address_stops_nothing(lab: Lab) -> None:
    run_id = lab.run(status="queued", state="SCHEDULED", state_name="Late", age=1000)
    assert told(lab) == [("firing", "queued", "A", 1)]  # and nobody hears it
    lab.set(run_id, "status = 'running'")
    lab.cycle()
    with lab.engine.begin() as db:
        forget_others(db, ["new"])
    assert lab.cycle() == []
    lab.pass_seconds(601)
    assert [event for event, *_ in lab.cycle()] == ["resolved"]


def test_one_alert_that_cannot_be_written_keeps_no_other_back(lab: Lab) -> None:
    for lane in "AB":
        lab.run(status="queued", state="SCHEDULED", state_name="Late", age=1000, lane=lane)

    def write(_db: Any, report: Any) -> Draft:
        if report.incident.lane == "A":
            raise IndexError
        return Draft(message=message("b"), destinations=["main"])

    lab.cycle()
    lab.pass_seconds(6)
    with lab.engine.begin() as db:
        assert write_messages(db, write, anybody=True) == 1
    assert [row.body for row in lab.sql("SELECT body FROM ops.alert_messages")] == ["b"]


def test_rule_that_fails_keeps_no_end_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = dead(lab)
    assert told(lab) == [("firing", "stuck", "A", 1)]
    lab.finish(run_id)
    monkeypatch.setitem(rules.QUERIES, Rule.BACKUP, "SELECT 1 / 0")
    assert lab.cycle() == [("resolved", "stuck", "A", 1)]


def test_run_is_waited_for_while_prefect_is_away_and_until_its_processes_are_gone(lab: Lab) -> None:
    run_id = dead(lab, max_attempts=3)
    assert told(lab) == [("firing", "stuck", "A", 1)]
    lab.finish(run_id)
    lab.set(run_id, "fenced_at = now(), updated_at = now() - interval '61 s'")
    lab.sql("UPDATE ops.run_states SET type = 'CRASHED', name = 'HeartbeatTimeout'")
    assert lab.cycle() == []  # nobody has said that its processes are gone
    lab.set(run_id, "reaped_at = now(), updated_at = now() - interval '61 s'")
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '1 min' WHERE name = 'prefect'")
    assert [rule for _, rule, *_ in lab.cycle()] == []  # Prefect is away
    lab.set(run_id, "updated_at = now() - interval '61 min'")
    assert ("resolved", "stuck", "A", 1) in lab.cycle()


def test_message_of_the_version_before_gets_a_title_and_no_green_tick(lab: Lab) -> None:
    step = import_module("opsdb.migrations.versions.0017_messages")
    lab.run(status="queued", state="SCHEDULED", state_name="Late", age=1000)
    told(lab)
    body = "✅ **Resolved: Stuck Run Detected**: `@everyone <x>`\n- Became: `failed`"
    lab.sql("UPDATE ops.alert_messages SET event = 'resolved', body = :body", body=body)
    with lab.engine.begin() as db:
        for statement in (step.FILL, step.RED):
            db.execute(text(statement))
    [row] = lab.sql("SELECT title, level, body FROM ops.alert_messages")
    assert (row.title, row.level) == ("🔴 Ended In Failure: Stuck Run Detected", "failure")
    assert row.body == body.replace("✅ **Resolved", "🔴 **Ended In Failure")
