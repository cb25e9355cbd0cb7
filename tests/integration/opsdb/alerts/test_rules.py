"""Each rule on a real PostgreSQL: when it holds, when it does not, and what an outage does to it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from sqlalchemy import Engine, text

from opsdb.alerts.episodes import open_fenced
from opsdb.alerts.rules import apply_rules, forget_database
from opsdb.alerts.thresholds import parse_thresholds
from opsdb.runs.origins import started_by_run
from opsdb.runs.workers import remove_worker, write_worker_heartbeat
from tests.support.alerts_lab import Lab
from tests.support.documents import ROOT

DAY = 86_400.0


@pytest.fixture
def lab(engine: Engine) -> Lab:
    return Lab(engine)


def holds(lab: Lab, rule: str) -> list[str]:
    """The subjects of which a rule holds, after one look."""
    with lab.engine.begin() as db:
        apply_rules(db, lab.thresholds)
    rows = lab.sql("SELECT subject FROM ops.alert_episodes WHERE rule = :r AND resolved_at IS NULL", r=rule)
    return [row.subject for row in rows]


def late(lab: Lab, age: float, **columns: Any) -> Any:
    return lab.run(status="queued", **({"state": "SCHEDULED", "state_name": "Late", "age": age} | columns))


@pytest.mark.parametrize(("age", "count"), [(890, 0), (910, 1)])
def test_queued_holds_after_15_minutes(lab: Lab, age: float, count: int) -> None:
    late(lab, age)
    assert len(holds(lab, "queued")) == count


def test_approval_holds_while_a_run_waits_for_one(lab: Lab) -> None:
    late(lab, 60)  # which waits for nobody
    run = lab.run(status="queued", state="PAUSED", state_name="Suspended", age=1)
    lab.sql(
        "UPDATE ops.run_states SET message = 'waits for approval until 2026-11-25 21:30:00 UTC: deploy `@all`?' "
        "WHERE run_id = :run",
        run=run,
    )
    assert holds(lab, "approval") == [f"{run}/1"]
    [row] = lab.sql("SELECT facts FROM ops.alert_episodes WHERE rule = 'approval'")
    assert row.facts["until"] == "2026-11-25 21:30:00 UTC"
    assert row.facts["question"] == "deploy `@all`?"
    lab.sql("UPDATE ops.runs SET status = 'running' WHERE id = :run", run=run)
    assert holds(lab, "approval") == []


@pytest.mark.parametrize(
    ("followed", "answer"),
    [
        ("'SCHEDULED', 'Resuming', 'approved by ana with `ops approve`'", "approved by ana with `ops approve`"),
        ("'SCHEDULED', 'Resuming', NULL", "approved in Prefect's UI or over its API"),
        ("'CANCELLED', 'Cancelled', 'cancelled by ben with `ops cancel`'", "cancelled by ben with `ops cancel`"),
        ("'CANCELLED', 'Cancelled', NULL", "cancelled in Prefect's UI or over its API"),
        ("'FAILED', 'Failed', 'The flow was paused and never resumed.'", "nobody answered in time"),
        ("'COMPLETED', 'Completed', NULL", "none: somebody set it to Completed in Prefect"),
    ],
)
def test_end_of_an_approval_says_who_answered_what(lab: Lab, followed: str, answer: str) -> None:
    run = lab.run(status="queued", state="PAUSED", state_name="Suspended", age=60)
    lab.sql(
        "UPDATE ops.run_states SET message = 'waits for approval until 2026-11-25 21:30:00 UTC: deploy?' "
        "WHERE run_id = :run",
        run=run,
    )
    assert holds(lab, "approval") == [f"{run}/1"]
    lab.sql(
        "INSERT INTO ops.run_states (id, run_id, at, type, name, message) "
        f"SELECT gen_random_uuid(), :run, clock_timestamp() + make_interval(secs => n), {followed} "
        "FROM generate_series(0, 0) n",
        run=run,
    )
    lab.sql("UPDATE ops.runs SET status = 'running' WHERE id = :run", run=run)
    assert holds(lab, "approval") == []
    [row] = lab.sql("SELECT facts FROM ops.alert_episodes WHERE rule = 'approval'")
    assert row.facts["answer"] == answer


def test_run_that_somebody_holds_in_prefect_waits_for_no_approval(lab: Lab) -> None:
    lab.run(status="queued", state="PAUSED", state_name="Suspended", age=1)
    assert holds(lab, "approval") == []


@pytest.mark.parametrize("name", ["AwaitingRetry", "Resuming"])
def test_queued_holds_of_another_attempt_that_nobody_takes(lab: Lab, name: str) -> None:
    late(lab, 910, state_name=name, attempt=2)
    assert len(holds(lab, "queued")) == 1


def test_queued_does_not_hold_of_what_is_planned(lab: Lab) -> None:
    late(lab, 86_400, state_name="Scheduled")
    assert holds(lab, "queued") == []


def test_queued_holds_of_what_waits_for_a_slot_of_its_deployment_since_it_was_asked_for(lab: Lab) -> None:
    run = late(lab, 910, state_name="AwaitingConcurrencySlot")
    lab.sql("UPDATE ops.run_states SET recorded_at = now() WHERE run_id = :run", run=run)  # it was just tried again
    assert holds(lab, "queued") == [f"{run}/1"]


def test_queued_counts_from_when_a_run_is_due(lab: Lab) -> None:
    run = late(lab, 910, state_name="AwaitingRetry")
    lab.sql("UPDATE ops.runs SET due_at = '2036-01-01' WHERE id = :run", run=run)
    assert holds(lab, "queued") == []


@pytest.mark.parametrize(
    ("created", "due", "attempt", "holds_now"),
    [(3600, 600, 1, False), (3600, 960, 1, True), (-3600, 960, 1, True), (3600, 600, 2, False), (3600, 960, 2, True)],
)
def test_queued_of_what_waits_for_a_slot_counts_from_when_it_was_due_last(
    lab: Lab, created: float, due: float, attempt: int, holds_now: bool
) -> None:
    run = late(lab, created, state_name="AwaitingConcurrencySlot", attempt=attempt)
    lab.sql("UPDATE ops.run_states SET recorded_at = now() WHERE run_id = :run", run=run)
    lab.set(run, f"due_at = now() - interval '{due} s'")
    assert holds(lab, "queued") == ([f"{run}/{attempt}"] if holds_now else [])


def test_query_of_the_monitoring_page_finds_what_was_stuck_though_it_is_over(lab: Lab) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    [query] = re.findall(r"```sql\n(SELECT e\.id.*?)```", page, re.DOTALL)
    with lab.engine.begin() as db:  # whose now() stands still
        for age, rule in ((30, "stuck"), (59, "overdue"), (30, "queued"), (61, "stuck"), (-1, "stuck")):
            db.execute(
                text(
                    "INSERT INTO ops.alert_episodes (rule, lane, subject, facts, opened_at, resolved_at) "
                    "VALUES (:rule, 'A', :about, '{}', "
                    "date_trunc('minute', now()) - make_interval(secs => :age), now())"
                ),
                {"rule": rule, "about": f"{rule}{age}", "age": age},
            )
        found = db.execute(text(query.replace(":", "\\:"))).all()
        subjects = db.scalars(
            text("SELECT subject FROM ops.alert_episodes WHERE id = ANY(:ids) ORDER BY 1"),
            {"ids": [r.id for r in found]},
        ).all()
    assert subjects == ["overdue59", "stuck30"]


def plan(lab: Lab, **columns: Any) -> None:
    values = {"deployment": "nightly/nightly", "name": "leap", "expression": "cron '0 0 30 2 *'", "active": True}
    values |= {"fault": None, "unplanned": None} | columns
    lab.sql(
        "INSERT INTO ops.schedule_plans (id, deployment, name, expression, active, fault, unplanned_since) VALUES "
        "(gen_random_uuid(), :deployment, :name, :expression, :active, :fault, "
        "clock_timestamp() - make_interval(secs => :unplanned))",
        **values,
    )


def test_schedule_holds_of_what_never_fires_even_when_the_room_paused_it(lab: Lab) -> None:
    plan(lab, active=False, fault="cron '0 0 30 2 *' never fires")
    plan(lab, name="good")
    plan(lab, name="paused", active=False, unplanned=1000)
    assert holds(lab, "schedule") == ["nightly/nightly leap"]
    [row] = lab.sql("SELECT facts, kind FROM ops.alert_episodes WHERE rule = 'schedule'")
    assert (row.facts["expression"], row.kind) == ("cron '0 0 30 2 *'", "nightly")
    assert row.facts["error"] == "cron '0 0 30 2 *' never fires"
    lab.sql("DELETE FROM ops.schedule_plans WHERE name = 'leap'")
    assert holds(lab, "schedule") == []


@pytest.mark.parametrize(("seconds", "count"), [(170, 0), (190, 1)])
def test_schedule_holds_of_one_that_prefect_plans_no_run_of(lab: Lab, seconds: float, count: int) -> None:
    plan(lab, unplanned=seconds)
    lab.sql("UPDATE ops.sync_marks SET at = at - interval '1 day'")
    assert len(holds(lab, "schedule")) == count


def test_queued_holds_of_one_that_was_postponed_only_when_its_lane_executes_nothing(lab: Lab) -> None:
    again = late(lab, 910, attempt=3)
    waiting = late(lab, 910)
    elsewhere = lab.run(lane="B")
    assert set(holds(lab, "queued")) == {f"{again}/3", f"{waiting}/1"}
    here = lab.run(lane="A")
    assert set(holds(lab, "queued")) == {f"{waiting}/1"}
    for run in (here, elsewhere):
        lab.finish(run, "succeeded")
    assert set(holds(lab, "queued")) == {f"{again}/3", f"{waiting}/1"}


def test_queued_holds_of_nothing_while_prefect_is_away_and_gives_time_after(lab: Lab) -> None:
    late(lab, 3600)
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '1 min' WHERE name IN ('sync', 'prefect')")
    assert holds(lab, "queued") == []
    lab.sql("UPDATE ops.sync_marks SET updated_at = now(), at = now()")
    assert holds(lab, "queued") == []
    lab.sql("UPDATE ops.sync_marks SET at = now() - interval '16 min'")
    assert len(holds(lab, "queued")) == 1


def test_queued_that_was_told_stays_over_an_outage(lab: Lab) -> None:
    late(lab, 3600)
    assert len(holds(lab, "queued")) == 1
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '1 min' WHERE name = 'prefect'")
    assert len(holds(lab, "queued")) == 1
    lab.sql("UPDATE ops.sync_marks SET updated_at = now(), at = now()")
    assert len(holds(lab, "queued")) == 1


def test_failed_holds_of_the_kinds_that_ask_for_it_until_the_next_success(lab: Lab) -> None:
    for kind in ("k", "other"):
        lab.finish(lab.run(kind=kind))
    assert holds(lab, "failed") == []
    lab.thresholds = parse_thresholds("failed:k=0")
    assert len(holds(lab, "failed")) == 1
    lab.finish(lab.run(kind="k"), "succeeded")
    assert holds(lab, "failed") == []


def test_failed_does_not_repeat_what_stuck_has_told(lab: Lab) -> None:
    lab.thresholds = parse_thresholds("failed=0")
    run = lab.run(fence_reason="HeartbeatTimeout")
    with lab.engine.begin() as db:
        open_fenced(db, [run])
    lab.finish(run)
    assert holds(lab, "failed") == []


def ended(lab: Lab, kind: str, status: str, database: str | None = None, **columns: Any) -> Any:
    params = {"odoo_db": database} if database else {}
    run_id = lab.run(kind=kind, params=json.dumps(params), **columns)
    lab.finish(run_id, status)
    lab.set(run_id, "updated_at = now() - interval '31 s'")  # the room did not try again by itself
    return run_id


@pytest.mark.parametrize("kind", ["odoo_db_backup", "nightly_backup", "odoo_restore_drill"])
def test_failed_holds_of_what_runs_unattended_unless_it_is_turned_off(lab: Lab, kind: str) -> None:
    run = lab.run(kind=kind, params="{}")
    lab.finish(run)
    assert holds(lab, "failed") == []  # the room may try again by itself
    lab.set(run, "updated_at = now() - interval '31 s'")
    assert holds(lab, "failed") == [f"{run}/1"]
    for words in (f"failed:{kind}=off", "failed=off"):
        lab.thresholds = parse_thresholds(words)
        assert holds(lab, "failed") == []


@pytest.mark.parametrize("kind", ["odoo_db_backup", "odoo_restore_drill"])
def test_failed_ends_with_a_success_of_the_same_database_only(lab: Lab, kind: str) -> None:
    failed = ended(lab, kind, "failed", "odoo_prod")  # before it began: it holds no resource
    ended(lab, kind, "succeeded", "odoo_staging", resource="odoo_db:odoo_staging")
    assert holds(lab, "failed") == [f"{failed}/1"]
    ended(lab, kind, "succeeded", "odoo_prod", resource="odoo_db:odoo_prod")
    assert holds(lab, "failed") == []


def test_failed_holds_of_a_run_that_was_asked_for_long_ago(lab: Lab) -> None:
    """A deploy waits for its approval over the holidays, a run was planned for next week: what counts is its end."""
    lab.thresholds = parse_thresholds("failed:deploy=0")
    old = ended(lab, "deploy", "failed", resource="droplet_name:one", age=20 * DAY)
    remembered = ended(lab, "deploy", "failed", resource="droplet_name:two")
    lab.set(remembered, "finished_at = now() - interval '4 days'")  # Prefect has it still, and a new room reads it
    assert holds(lab, "failed") == [f"{old}/1"]
    good = ended(lab, "deploy", "succeeded", resource="droplet_name:one", age=20 * DAY)
    assert holds(lab, "failed") == []
    [row] = lab.sql("SELECT facts FROM ops.alert_episodes WHERE rule = 'failed'")
    assert row.facts["resolved_by"]["id"] == str(good)


@pytest.mark.promise(15)
def test_failed_does_not_end_with_a_run_that_somebody_set_to_completed(lab: Lab) -> None:
    failed = ended(lab, "odoo_db_backup", "failed", "odoo_prod")
    other = ended(lab, "odoo_db_backup", "failed", "odoo_prod")
    assert holds(lab, "failed") == [f"{failed}/1"]
    lab.mark(other)
    assert holds(lab, "failed") == [f"{failed}/1"]


def test_failed_tells_once_of_what_a_session_tries_again_until_it_succeeds(lab: Lab) -> None:
    first = ended(lab, "odoo_db_backup", "failed", "odoo_prod")
    assert holds(lab, "failed") == [f"{first}/1"]
    ended(lab, "odoo_db_backup", "failed", "odoo_prod", resource="odoo_db:odoo_prod")
    other = ended(lab, "odoo_db_backup", "failed", "odoo_staging")
    assert set(holds(lab, "failed")) == {f"{first}/1", f"{other}/1"}
    ended(lab, "odoo_db_backup", "succeeded", "odoo_prod")
    assert holds(lab, "failed") == [f"{other}/1"]
    later = ended(lab, "odoo_db_backup", "failed", "odoo_prod")
    assert set(holds(lab, "failed")) == {f"{later}/1", f"{other}/1"}


def test_failed_compares_whatever_a_runbook_holds(lab: Lab) -> None:
    lab.thresholds = parse_thresholds("failed:deploy=0")
    failed = ended(lab, "deploy", "failed", resource="droplet_name:one")
    ended(lab, "deploy", "succeeded", resource="droplet_name:two")
    assert holds(lab, "failed") == [f"{failed}/1"]
    ended(lab, "deploy", "succeeded", resource="droplet_name:one")
    assert holds(lab, "failed") == []


def test_failed_backup_is_one_message(lab: Lab) -> None:
    """The fault case of a full disk: pg_dump fails, and the run with it."""
    ended(lab, "odoo_db_backup", "failed", "odoo_prod", error=json.dumps({"type": "StepFailed", "message": "full"}))
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "failed", "A", 1)]
    [subject] = lab.reports[-1].subjects
    assert subject.run is not None
    assert (subject.kind, subject.run.error, subject.run.database) == ("odoo_db_backup", "full", "odoo_prod")
    assert lab.cycle() == []


def backup(lab: Lab, hours: float, status: str = "succeeded", database: str = "odoo_prod") -> Any:
    run_id = lab.run(kind="odoo_db_backup", params=json.dumps({"odoo_db": database}), age=hours * 3600)
    lab.finish(run_id, status)
    lab.set(run_id, f"outcome = '{status}', outcome_at = now() - interval '{hours} h'")
    return run_id


@pytest.mark.parametrize(("hours", "found"), [(25.9, []), (26.1, ["odoo_prod"])])
def test_backup_holds_26_hours_after_the_last_verified_one(lab: Lab, hours: float, found: list[str]) -> None:
    backup(lab, 50)
    backup(lab, hours)
    backup(lab, 1, "failed")
    assert holds(lab, "backup") == found


@pytest.mark.promise(9)
def test_backup_that_somebody_set_to_completed_is_none(lab: Lab) -> None:
    backup(lab, 30)
    failed = backup(lab, 27, "failed")
    assert holds(lab, "backup") == ["odoo_prod"]
    lab.mark(failed)
    assert holds(lab, "backup") == ["odoo_prod"]
    lab.thresholds = parse_thresholds("backup=off")
    assert holds(lab, "backup") == []
    [row] = lab.sql("SELECT facts FROM ops.alert_episodes WHERE rule = 'backup'")
    assert "resolved_by" not in row.facts


def test_backup_does_not_hold_of_a_name_that_was_mistyped(lab: Lab) -> None:
    def unknown(database: str) -> None:
        run = backup(lab, 27, "failed", database)
        lab.set(run, """error = '{"type": "UnknownDatabase"}'""")

    unknown("nope")
    unknown("dropped")
    backup(lab, 30, database="dropped")
    assert holds(lab, "backup") == ["dropped"]
    backup(lab, 1, "failed", "nope")  # it is there by now
    assert set(holds(lab, "backup")) == {"dropped", "nope"}


def test_backup_holds_of_a_name_that_a_schedule_or_the_night_has_wrong(lab: Lab) -> None:
    for database in ("by_schedule", "by_night", "by_hand"):
        run = backup(lab, 27, "failed", database)
        lab.set(run, """error = '{"type": "UnknownDatabase"}'""")
        if database == "by_schedule":
            lab.set(run, "tick = 'x'")
        if database == "by_night":
            said = started_by_run("1234abcd", "nightly_backup")
            lab.sql("UPDATE ops.run_states SET message = :said WHERE run_id = :id", said=said, id=run)
    assert set(holds(lab, "backup")) == {"by_schedule", "by_night"}
    pass_days(lab, 40)  # nobody tried for a month
    assert set(holds(lab, "backup")) == {"by_schedule", "by_night"}


def test_backup_does_not_watch_what_is_planned_for_later(lab: Lab) -> None:
    backup(lab, 30)
    run = lab.run(kind="odoo_db_backup", params=json.dumps({"odoo_db": "odoo_prod"}), status="queued", age=-86_400)
    lab.set(run, "due_at = created_at")
    assert holds(lab, "backup") == ["odoo_prod"]
    with lab.engine.begin() as db:
        assert forget_database(db, "odoo_prod")
    assert holds(lab, "backup") == []


def test_backup_holds_of_a_database_that_never_had_one(lab: Lab) -> None:
    backup(lab, 27, "failed", "never")
    backup(lab, 3, "failed", "young")
    assert holds(lab, "backup") == ["never"]
    backup(lab, 0, database="never")
    assert holds(lab, "backup") == []


def pass_days(lab: Lab, days: float) -> None:
    """Let time pass for all that a backup alert looks at, as on a room that goes on without backups."""
    lab.pass_seconds(days * DAY)
    for column in ("created_at", "started_at", "updated_at", "finished_at", "outcome_at"):
        lab.sql(f"UPDATE ops.runs SET {column} = {column} - make_interval(secs => :s)", s=days * DAY)
    lab.sql(
        "UPDATE ops.alert_episodes SET facts = jsonb_set(facts, '{forgotten_at}', to_jsonb("
        "(facts->>'forgotten_at')::timestamptz - make_interval(secs => :s))) WHERE facts ? 'forgotten_at'",
        s=days * DAY,
    )


def open_backup_alert(lab: Lab) -> None:
    backup(lab, 30)
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "backup", "room", 1)]


def test_backup_is_not_told_as_resolved_when_its_last_run_is_long_ago(lab: Lab) -> None:
    open_backup_alert(lab)
    told = []
    for _ in range(70):
        pass_days(lab, 1)
        told += lab.cycle()
    assert {event for event, *_ in told} == {"repeat"}
    assert holds(lab, "backup") == ["odoo_prod"]
    backup(lab, 0)
    assert lab.cycle() == []
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "backup", "room", 1)]
    assert lab.reports[-1].subjects[0].facts["verified_at"] is not None


def test_backup_of_a_database_that_is_forgotten_ends_until_somebody_tries_again(lab: Lab) -> None:
    open_backup_alert(lab)
    backup(lab, 40, database="other")
    assert set(holds(lab, "backup")) == {"odoo_prod", "other"}
    with lab.engine.begin() as db:
        assert forget_database(db, "odoo_prod")
        assert not forget_database(db, "odoo_prod")
    for _ in range(40):
        assert holds(lab, "backup") == ["other"]
        pass_days(lab, 1)
    backup(lab, 1, "failed")
    pass_days(lab, 1.1)
    assert set(holds(lab, "backup")) == {"odoo_prod", "other"}
    [row] = lab.sql("SELECT facts FROM ops.alert_episodes WHERE subject = 'odoo_prod' AND resolved_at IS NULL")
    assert "forgotten_at" not in row.facts


def test_backup_that_was_forgotten_is_watched_again_when_somebody_retries_an_old_run(lab: Lab) -> None:
    open_backup_alert(lab)
    failed = backup(lab, 27, "failed")
    with lab.engine.begin() as db:
        assert forget_database(db, "odoo_prod")
    assert holds(lab, "backup") == []
    lab.set(failed, "attempt = 2, started_at = now()")
    assert holds(lab, "backup") == ["odoo_prod"]


def test_leftovers_hold_until_somebody_says_they_are_gone(lab: Lab) -> None:
    survivors, unconfirmed, fine = lab.run(), lab.run(), lab.run()
    for run_id, level, data in (
        (survivors, "error", {"pids": [41, 42]}),
        (unconfirmed, "error", {"reaped": False, "attempt": 1}),
        (fine, "error", {"other": 1}),
        (fine, "warning", {"reaped": True}),
    ):
        lab.sql(
            "INSERT INTO ops.run_events (id, run_id, level, message, data) "
            "VALUES (gen_random_uuid(), :run_id, :level, 'x', CAST(:data AS jsonb))",
            run_id=run_id,
            level=level,
            data=json.dumps(data),
        )
    assert holds(lab, "leftovers") == []  # its worker may be about to say so
    lab.sql("UPDATE ops.run_events SET created_at = now() - interval '31 s'")
    assert set(holds(lab, "leftovers")) == {f"{survivors}/1", f"{unconfirmed}/1"}
    lab.set(survivors, "reaped_at = now()")
    assert holds(lab, "leftovers") == [f"{unconfirmed}/1"]
    lab.set(unconfirmed, "attempt = 2")  # begun anew: the earlier one is known to be gone
    assert holds(lab, "leftovers") == []


def serve(lab: Lab, name: str = "h-1", host: str = "h", lanes: str = "AB", age: float = 0) -> None:
    with lab.engine.begin() as db:
        write_worker_heartbeat(db, name=name, host=host, lanes=lanes)
    lab.sql(
        "UPDATE ops.workers SET heartbeat_at = now() - make_interval(secs => :age) WHERE name = :n", age=age, n=name
    )


def watched_for_long(lab: Lab) -> None:
    lab.sql("UPDATE ops.sync_marks SET at = now() - interval '1 day'")


def test_worker_is_lost_after_30_s_unless_it_said_good_bye(lab: Lab) -> None:
    watched_for_long(lab)
    serve(lab, "h-1", "h", age=29)
    assert holds(lab, "worker_lost") == []
    serve(lab, "h-1", "h", age=31)
    assert holds(lab, "worker_lost") == ["h"]
    with lab.engine.begin() as db:
        remove_worker(db, name="h-1")
    assert holds(lab, "worker_lost") == []


def test_worker_that_another_replaced_on_its_host_is_not_lost(lab: Lab) -> None:
    watched_for_long(lab)
    serve(lab, "h-1", "h", age=31)
    serve(lab, "h-2", "h")
    assert holds(lab, "worker_lost") == []
    assert [row.name for row in lab.sql("SELECT DISTINCT name FROM ops.workers")] == ["h-2"]


def test_worker_is_not_lost_while_nobody_could_look(lab: Lab) -> None:
    serve(lab, age=300)
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '1 min' WHERE name = 'alerts'")
    assert holds(lab, "worker_lost") == []
    watched_for_long(lab)
    assert holds(lab, "worker_lost") == ["h"]


@pytest.mark.parametrize(
    ("sweep_age", "missing"), [(1, "prefect"), (100, "sync")], ids=["prefect is away", "the sync is away"]
)
def test_sync_behind_names_who_is_away(lab: Lab, sweep_age: float, missing: str) -> None:
    watched_for_long(lab)
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '61 s' WHERE name IN ('sync', 'prefect')")
    lab.sql(
        "UPDATE ops.sync_marks SET updated_at = now() - make_interval(secs => :a) WHERE name = 'sweep'", a=sweep_age
    )
    assert holds(lab, "sync_behind") == ["sync"]
    [row] = lab.sql("SELECT facts FROM ops.alert_episodes WHERE rule = 'sync_behind'")
    assert row.facts["missing"] == missing
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() WHERE name = 'sync'")
    assert holds(lab, "sync_behind") == []


def test_prefect_outage_is_one_message_whatever_waits(lab: Lab) -> None:
    watched_for_long(lab)
    for _ in range(20):
        late(lab, 3600)
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '61 s' WHERE name IN ('sync', 'prefect')")
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "sync_behind", "room", 1)]
