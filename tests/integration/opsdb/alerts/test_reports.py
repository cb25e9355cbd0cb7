"""What a message is written from: how runs stand when it is written, how episodes ended, who took care of it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from exporter.alerting.outlook import read_outlook
from opsdb.alerts.episodes import open_fenced
from opsdb.alerts.incidents import acknowledge
from opsdb.alerts.report import RESOLVED_BY, RunNow, Subject
from opsdb.alerts.thresholds import parse_thresholds
from opsdb.errors import UsageError
from tests.support.alerts_lab import Lab
from tests.support.reports import written


@pytest.fixture
def lab(engine: Engine) -> Lab:
    return Lab(engine, "failed=0")


def fenced(lab: Lab, reason: str = "HeartbeatTimeout", **columns: Any) -> UUID:
    """A run that the sweeper has fenced."""
    run_id = lab.run(fence_reason=reason, max_attempts=3, **columns)
    with lab.engine.begin() as db:
        open_fenced(db, [run_id])
    return run_id


def die(lab: Lab, run_id: UUID, name: str = "HeartbeatTimeout", *, reaped: bool = True) -> None:
    """End a run by a verdict of the room's."""
    state = uuid4()
    lab.sql(
        "INSERT INTO ops.run_states (id, run_id, at, type, name) VALUES (:state, :run, now(), 'CRASHED', :name)",
        state=state,
        run=run_id,
        name=name,
    )
    lab.set(run_id, f"state_id = '{state}', fenced_at = now()" + (", reaped_at = now()" if reaped else ""))
    lab.finish(run_id)


def told(lab: Lab) -> list[tuple[str, str, str, int]]:
    """What is reported once 6 s have passed."""
    lab.cycle()
    lab.pass_seconds(6)
    return lab.cycle()


def first(lab: Lab) -> tuple[Subject, RunNow]:
    subject = lab.reports[-1].subjects[0]
    assert subject.run is not None
    return subject, subject.run


def outlook(lab: Lab) -> str:
    with lab.engine.begin() as db:
        return read_outlook(db, lab.reports[-1])


@pytest.mark.promise(15)
def test_run_that_is_tried_again_keeps_its_alert_until_it_is_over(lab: Lab) -> None:
    run_id = fenced(lab, kind="odoo_db_backup")
    assert told(lab) == [("firing", "stuck", "A", 1)]
    assert outlook(lab) == "the room ends it, then tries it again, at most 2 times"
    die(lab, run_id)
    assert lab.cycle() == []  # the room may try it again
    lab.set(run_id, "status = 'running', finished_at = NULL, attempt = 2")
    lab.pass_seconds(600)
    assert lab.cycle() == []
    lab.finish(run_id)
    lab.set(run_id, "updated_at = now() - interval '61 s'")
    assert lab.cycle() == [("resolved", "stuck", "A", 1)]
    said = written(lab.reports[-1])
    assert said.title == "🚨 Ended In Failure: Stuck Run Detected"
    assert "heartbeat" not in said.body  # of another attempt
    assert "- Became: `failed`, attempt 2" in said.body
    assert lab.cycle() == []


def test_run_that_succeeds_in_another_attempt_ends_its_alert_in_green(lab: Lab) -> None:
    run_id = fenced(lab)
    assert told(lab) == [("firing", "stuck", "A", 1)]
    die(lab, run_id)
    lab.set(run_id, "attempt = 2")
    lab.finish(run_id, "succeeded")
    assert lab.cycle() == [("resolved", "stuck", "A", 1)]
    assert written(lab.reports[-1]).title == "✅ Resolved: Stuck Run Detected"


def test_run_that_nobody_tries_again_is_over_at_once(lab: Lab) -> None:
    run_id = fenced(lab, "DeadlineExceeded")
    assert told(lab) == [("firing", "overdue", "A", 1)]
    assert outlook(lab) == "the room ends it, and nothing tries it again"
    die(lab, run_id, "DeadlineExceeded")
    assert lab.cycle() == [("resolved", "overdue", "A", 1)]
    assert outlook(lab) == "nothing tries it again"


def test_outlook_of_a_dead_run_names_its_next_attempt(lab: Lab) -> None:
    run_id = fenced(lab)
    die(lab, run_id)
    assert told(lab) == [("firing", "stuck", "A", 1)]
    assert outlook(lab) == "the room tries it again once its processes are known to be gone, at most 2 times"


def test_outlook_names_the_night_that_may_try_again(lab: Lab) -> None:
    waiting = {"status": "queued", "state": "SCHEDULED", "state_name": "Scheduled"}
    night = lab.run(kind="nightly_backup", name="night", age=400_000, **waiting)  # somebody tries an old one again
    lab.sql("UPDATE ops.run_states SET message = 'waits until 2026-11-30 02:10:00 UTC: odoo_prod failed'")
    run_id = lab.run(kind="odoo_db_backup")
    said = f"started by run {str(night)[-8:]} of nightly_backup"
    lab.sql("UPDATE ops.run_states SET message = :said WHERE run_id = :id", said=said, id=run_id)
    lab.finish(run_id)
    assert told(lab) == [("firing", "failed", "A", 1)]
    waits = "`waits until 2026-11-30 02:10:00 UTC: odoo_prod failed`"
    assert outlook(lab) == f"`night`, run `{str(night)[-8:]}`, which started it, may try it again: {waits}"
    lab.finish(night)
    assert outlook(lab) == "nothing tries it again"


def test_outlook_names_the_next_run_of_a_schedule(lab: Lab) -> None:
    plan = uuid4()
    lab.sql(
        "INSERT INTO ops.schedule_plans (id, deployment, name, expression, active, planned_at) "
        "VALUES (:id, 'odoo_db_backup/x', 'nightly', '0 2 * * *', true, '2099-12-01 02:00+00')",
        id=plan,
    )
    lab.finish(lab.run(kind="odoo_db_backup", tick=f"scheduled x {plan} y"))
    assert told(lab) == [("firing", "failed", "A", 1)]
    next_run = "its schedule `nightly` starts the next run at 2099-12-01 02:00 UTC"
    assert outlook(lab) == f"nothing tries it again; {next_run}"


def test_report_says_which_database_which_step_and_why(lab: Lab) -> None:
    params = json.dumps({"odoo_db": "odoo_prod"})
    run_id = lab.run(kind="odoo_db_backup", name="odoo_prod · backup", params=params)
    for index, status in enumerate(("succeeded", "failed")):
        lab.sql(
            "INSERT INTO ops.run_steps (run_id, attempt, index, name, status, command, timeout_seconds, started_at) "
            "VALUES (:id, 1, :index, :name, :status, 'x', 1, now())",
            id=run_id,
            index=index,
            name=f"step {index}",
            status=status,
        )
    error = {"type": "StepFailed", "message": "pg_dump ended with exit code 1\n| more", "stack": None}
    lab.set(run_id, f"error = '{json.dumps(error)}'")
    lab.finish(run_id)
    assert told(lab) == [("firing", "failed", "A", 1)]
    _, run = first(lab)
    assert (run.name, run.database, run.step) == ("odoo_prod · backup", "odoo_prod", "step 1")
    assert run.error == error["message"]
    assert lab.reports[-1].databases == ["odoo_prod"]
    said = written(lab.reports[-1], outlook=outlook(lab)).body
    assert "- Error: `pg_dump ended with exit code 1`\n" in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"type": "KeyError", "message": "'odoo'", "stack": "Traceback"}, "KeyError: 'odoo'"),
        ({"type": "Preflight", "message": "no room on the disk", "stack": None}, "no room on the disk"),
        ({"type": "Preflight", "message": "", "stack": None}, "Preflight"),
        (None, None),
    ],
)
def test_error_is_its_message_and_not_the_name_of_a_class(
    lab: Lab, error: dict[str, Any] | None, words: str | None
) -> None:
    lab.finish(lab.run(error=json.dumps(error)))
    told(lab)
    assert first(lab)[1].error == words


def test_night_names_its_databases(lab: Lab) -> None:
    lab.finish(lab.run(kind="nightly_backup", params=json.dumps({"databases": ["odoo_a", "odoo_b"]})))
    told(lab)
    assert first(lab)[1].database == "odoo_a, odoo_b"


def test_success_that_made_a_failure_good_is_named_whichever_it_is(lab: Lab) -> None:
    params = json.dumps({"odoo_db": "odoo_prod"})
    lab.finish(lab.run(kind="odoo_db_backup", params=params))
    retried = lab.run(kind="k")
    lab.finish(retried)
    assert told(lab) == [("firing", "failed", "A", 2)]
    good = lab.run(kind="odoo_db_backup", name="odoo_prod · backup", params=params)
    for run_id in (good, retried):  # of another run, and of its own next attempt
        lab.finish(run_id, "succeeded")
    lab.cycle()
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "failed", "A", 2)]
    report = lab.reports[-1]
    assert report.statuses == {"succeeded": 2}
    assert {subject.facts[RESOLVED_BY]["id"] for subject in report.subjects} == {str(good), str(retried)}
    said = written(report)
    assert said.title == "✅ Resolved: Run Failed: 2 runs in lane A, odoo_prod"
    assert f"resolved by `odoo_prod · backup` `{str(good)[-8:]}`, succeeded " in said.body.lower()


@pytest.mark.promise(15)
def test_failure_that_no_success_made_good_ends_in_red(lab: Lab) -> None:
    run_id = lab.run(kind="k")
    lab.finish(run_id)
    assert told(lab) == [("firing", "failed", "A", 1)]
    lab.set(run_id, "updated_at = now() - interval '25 h'")
    lab.cycle()
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "failed", "A", 1)]
    assert written(lab.reports[-1]).title == "🔴 Ended In Failure: Run Failed"


def test_backup_that_was_missed_is_resolved_by_the_one_that_was_verified(lab: Lab) -> None:
    params = json.dumps({"odoo_db": "odoo_prod"})
    lab.thresholds = parse_thresholds("failed=off")
    lab.finish(lab.run(kind="odoo_db_backup", params=params, age=100_000))
    assert told(lab) == [("firing", "backup", "room", 1)]
    good = lab.run(kind="odoo_db_backup", params=params)
    lab.finish(good, "succeeded")
    lab.cycle()
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "backup", "room", 1)]
    said = written(lab.reports[-1])
    assert f"- Resolved by: `odoo_db_backup` `{str(good)[-8:]}`, succeeded " in said.body
    assert "Last verified" not in said.body


def test_acknowledged_alert_reminds_nobody_until_something_joins(lab: Lab) -> None:
    lab.finish(lab.run(kind="k"))
    assert told(lab) == [("firing", "failed", "A", 1)]
    [row] = lab.sql("SELECT id FROM ops.alert_incidents")
    with lab.engine.begin() as db:
        assert acknowledge(db, row.id, "ana") is None
    lab.pass_seconds(5 * 3600)
    assert lab.cycle() == []
    lab.finish(lab.run(kind="k"))
    assert lab.cycle() == [("repeat", "failed", "A", 2)]
    lab.pass_seconds(5 * 3600)
    assert lab.cycle() == [("repeat", "failed", "A", 2)]  # of the new one nobody said that he has it
    with lab.engine.begin() as db:
        assert acknowledge(db, row.id, "ben") == "ana"


def test_alert_that_does_not_last_cannot_be_acknowledged(lab: Lab) -> None:
    with (
        lab.engine.begin() as db,
        pytest.raises(UsageError, match=r"alert 12 is not active\. Hint: `ops alerts` lists"),
    ):
        acknowledge(db, 12, "ana")
