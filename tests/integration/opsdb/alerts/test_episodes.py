"""Episodes and incidents on a real PostgreSQL: what is told, how often, and in which order."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from opsdb.alerts.episodes import open_fenced
from opsdb.alerts.incidents import acknowledge
from opsdb.alerts.thresholds import parse_thresholds
from opsdb.room_locks import Lock, try_lock
from opsdb.runs.runs import apply_states, facts_of_row
from opsdb.runs.sweeper import fence_run, sweep
from opsdb.settings import Settings
from opsdb.states import State
from tests.support.alerts_lab import Lab, message


@pytest.fixture
def lab(engine: Engine) -> Lab:
    return Lab(engine)


def fence_silent(lab: Lab, settings: Settings, *, seconds: float = 40) -> None:
    lab.sql("UPDATE ops.runs SET heartbeat_at = clock_timestamp() - make_interval(secs => :s)", s=seconds)
    with lab.engine.begin() as db:
        sweep(db, settings)


def test_stuck_run_is_told_once_and_its_end_once(lab: Lab, settings: Settings) -> None:
    run_id = lab.run(kind="odoo_db_backup", claimed_by="host-7")
    fence_silent(lab, settings)
    assert lab.cycle() == []  # what died with it may still come
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "stuck", "A", 1)]
    [subject] = lab.reports[0].subjects
    assert (subject.run_id, subject.kind, subject.facts["worker"], subject.facts["session"]) == (
        run_id,
        "odoo_db_backup",
        "host-7",
        "Release",
    )
    assert 40 <= subject.facts["silent_seconds"] < 60
    assert lab.cycle() == []
    lab.finish(run_id)
    assert lab.cycle() == [("resolved", "stuck", "A", 1)]
    lab.pass_seconds(86_400)
    assert lab.cycle() == []


def test_stuck_run_that_is_over_before_anybody_looks_is_told_with_its_end_after(lab: Lab, settings: Settings) -> None:
    run_id = lab.run()
    fence_silent(lab, settings)
    lab.finish(run_id)
    lab.pass_seconds(3600)  # the alerter was down
    assert [told[0] for told in (*lab.cycle(), *lab.cycle(), *lab.cycle())] == ["firing", "resolved"]


def test_run_whose_process_died_is_told_as_stuck_once(lab: Lab, settings: Settings) -> None:
    run = lab.run(state="RUNNING")
    with lab.engine.begin() as db:
        row = db.execute(text("SELECT * FROM ops.runs WHERE id = :id"), {"id": run}).one()
        at = row.state_at + timedelta(seconds=1)
        died = State(id=uuid4(), at=at, type="CRASHED", name="Crashed", message="killed by SIGKILL")
        apply_states(db, facts=facts_of_row(row), states=[died])
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "stuck", "A", 1)]
    assert lab.reports[-1].subjects[0].facts["error"] == "killed by SIGKILL"
    assert lab.cycle() == [("resolved", "stuck", "A", 1)]
    with lab.engine.begin() as db:  # Prefect says so again, as it does after a verdict of the room's
        again = replace(died, id=uuid4(), at=at + timedelta(seconds=1))
        apply_states(db, facts=facts_of_row(row), states=[again])
        sweep(db, settings)
    lab.pass_seconds(6)
    assert lab.cycle() == []


def test_run_that_was_told_to_stop_is_no_incident(lab: Lab) -> None:
    run = lab.run(error=json.dumps({"type": "Terminated", "context": {"attempt": 1}}))
    with lab.engine.begin() as db:
        row = db.execute(text("SELECT * FROM ops.runs WHERE id = :id"), {"id": run}).one()
        at = row.state_at + timedelta(seconds=1)
        apply_states(db, facts=facts_of_row(row), states=[State(id=uuid4(), at=at, type="CRASHED", name="Crashed")])
    lab.pass_seconds(6)
    assert lab.cycle() == []


def test_episode_is_undone_with_the_sweep_that_opened_it(lab: Lab, settings: Settings) -> None:
    lab.run()
    lab.sql("UPDATE ops.runs SET heartbeat_at = clock_timestamp() - interval '1 min'")
    with lab.engine.connect() as db:
        assert sweep(db, settings)
        db.rollback()
    assert lab.sql("SELECT * FROM ops.alert_episodes") == []


@pytest.mark.parametrize(
    ("reason", "rule"), [("HeartbeatTimeout", "stuck"), ("DeadlineExceeded", "overdue"), ("ClaimTimeout", "claim")]
)
def test_reason_of_the_fence_chooses_the_rule(lab: Lab, reason: str, rule: str) -> None:
    run_id = lab.run()
    with lab.engine.begin() as db:
        fence_run(db, run_id=run_id, reason=reason)
        open_fenced(db, [run_id])
    assert [row.rule for row in lab.sql("SELECT rule FROM ops.alert_episodes")] == [rule]


def test_cancelled_run_and_one_with_an_outcome_are_no_incident(lab: Lab, settings: Settings) -> None:
    cancelled, done = lab.run(state="CANCELLING"), lab.run()
    lab.set(done, "outcome = 'succeeded', outcome_at = clock_timestamp()")
    for run_id in (cancelled, done):
        with lab.engine.begin() as db:
            fence_run(db, run_id=run_id, reason="HeartbeatTimeout")
            open_fenced(db, [run_id])
    assert lab.sql("SELECT * FROM ops.alert_episodes") == []


@pytest.mark.parametrize("count", [100, 10_000])
def test_many_at_once_are_one_message_per_lane(lab: Lab, settings: Settings, count: int) -> None:
    first = lab.run(kind="a")
    lab.sql(
        "INSERT INTO ops.runs (id, session_id, kind, lane, status, created_at, state_id, state_at, heartbeat_at) "
        "SELECT gen_random_uuid(), session_id, CASE WHEN g % 10 = 0 THEN 'b' ELSE 'a' END, lane, status, created_at, "
        "state_id, state_at, heartbeat_at FROM ops.runs, generate_series(1, :n) g",
        n=count - 1,
    )
    ids = [row.id for row in lab.sql("UPDATE ops.runs SET fence_reason = 'HeartbeatTimeout' RETURNING id")]
    assert first in ids
    with lab.engine.begin() as db:
        open_fenced(db, ids)
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "stuck", "A", count)]
    [report] = lab.reports
    assert len(report.subjects) == 10
    assert report.kinds["b"] == (count - 1) // 10
    lab.sql("UPDATE ops.runs SET status = 'failed', finished_at = clock_timestamp()")
    assert lab.cycle() == [("resolved", "stuck", "A", count)]


def test_lanes_are_told_apart(lab: Lab, settings: Settings) -> None:
    lab.run(lane="A")
    lab.run(lane="B")
    fence_silent(lab, settings)
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "stuck", "A", 1), ("firing", "stuck", "B", 1)]


def queue(lab: Lab, age: float, **columns: object) -> object:
    return lab.run(status="queued", state="SCHEDULED", state_name="Late", age=age, **columns)


def test_it_is_repeated_every_4_hours_while_it_lasts(lab: Lab) -> None:
    queue(lab, 1000)
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "queued", "A", 1)]
    told = []
    for _ in range(24 * 4):
        lab.pass_seconds(900)
        told += [event for event, *_ in lab.cycle()]
    assert told == ["repeat"] * 6


def test_subject_that_joins_is_told_within_minutes_and_not_at_once(lab: Lab) -> None:
    queue(lab, 1000)
    lab.cycle()
    lab.pass_seconds(6)
    lab.cycle()
    queue(lab, 1000)
    assert lab.cycle() == []
    lab.pass_seconds(301)
    assert lab.cycle() == [("repeat", "queued", "A", 2)]
    lab.pass_seconds(301)
    assert lab.cycle() == []


def test_what_comes_back_within_10_minutes_continues_the_episode(lab: Lab) -> None:
    run_id = queue(lab, 1000)
    lab.cycle()
    lab.pass_seconds(6)
    lab.cycle()
    for _ in range(5):
        lab.sql("UPDATE ops.run_states SET recorded_at = clock_timestamp()")
        assert lab.cycle() == []
        lab.pass_seconds(590)
        lab.sql("UPDATE ops.run_states SET recorded_at = clock_timestamp() - interval '1 hour'")
        assert lab.cycle() == []
    assert len(lab.sql("SELECT * FROM ops.alert_episodes")) == 1
    lab.sql("UPDATE ops.runs SET status = 'running'")
    assert lab.cycle() == []
    lab.pass_seconds(599)
    assert lab.cycle() == []
    lab.pass_seconds(2)
    assert lab.cycle() == [("resolved", "queued", "A", 1)]
    lab.set(run_id, "status = 'queued'")  # type: ignore[arg-type]
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "queued", "A", 1)]
    assert len(lab.sql("SELECT * FROM ops.alert_incidents")) == 2


def test_two_alerters_at_once_tell_once(lab: Lab, settings: Settings) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from opsdb.alerts.incidents import Draft, write_messages
    from opsdb.alerts.rules import apply_rules

    for lane in "ABCD":
        queue(lab, 1000, lane=lane)
    lab.cycle()
    lab.pass_seconds(6)

    def cycle(_: int) -> None:
        with lab.engine.begin() as db:
            if try_lock(db, Lock.ALERTER):
                apply_rules(db, lab.thresholds)
                draft = Draft(message=message("b"), destinations=["main"])
                write_messages(db, lambda _db, _report: draft, anybody=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cycle, range(24)))
    assert [row.n for row in lab.sql("SELECT count(*) n FROM ops.alert_messages")] == [4]


def test_silenced_rule_is_told_when_the_silence_ends_if_it_still_lasts(lab: Lab) -> None:
    lab.sql("INSERT INTO ops.alert_silences (rule, until_at) VALUES ('queued', clock_timestamp() + interval '1 h')")
    queue(lab, 1000)
    lab.cycle()
    lab.pass_seconds(1800)
    assert lab.cycle() == []
    lab.pass_seconds(1801)
    assert lab.cycle() == [("firing", "queued", "A", 1)]


def test_what_passed_in_silence_is_never_told(lab: Lab) -> None:
    lab.sql("INSERT INTO ops.alert_silences (rule, until_at) VALUES ('queued', clock_timestamp() + interval '1 h')")
    queue(lab, 1000)
    lab.cycle()
    lab.sql("UPDATE ops.runs SET status = 'running'")
    lab.cycle()
    lab.pass_seconds(7200)
    assert lab.cycle() == []


def test_without_anybody_to_tell_it_waits_until_there_is(lab: Lab) -> None:
    lab.destinations = []
    queue(lab, 1000)
    lab.cycle()
    lab.pass_seconds(86_400)
    assert lab.cycle() == []
    lab.destinations = ["main"]
    assert lab.cycle() == [("firing", "queued", "A", 1)]


def test_without_anybody_to_tell_what_comes_back_continues_the_acknowledged_alert(lab: Lab) -> None:
    lab.destinations = []
    run_id = queue(lab, 1000)
    lab.cycle()
    [incident] = lab.sql("SELECT id FROM ops.alert_incidents")
    with lab.engine.begin() as db:
        acknowledge(db, incident.id, "ana")
    for seconds, closed in ((590, 0), (601, 1)):
        lab.sql("UPDATE ops.runs SET status = 'running'")
        lab.cycle()
        lab.pass_seconds(seconds)
        lab.cycle()
        lab.set(run_id, "status = 'queued'")  # type: ignore[arg-type]
        lab.cycle()
        [active] = lab.sql("SELECT acknowledged_by FROM ops.alert_incidents WHERE closed_at IS NULL")
        assert active.acknowledged_by == (None if closed else "ana")
        assert len(lab.sql("SELECT FROM ops.alert_incidents WHERE closed_at IS NOT NULL")) == closed


def test_thresholds_are_those_of_the_kind(engine: Engine) -> None:
    lab = Lab(engine, "queued=900 queued:slow=7200 queued:never=off")
    for kind in ("slow", "never", "k"):
        queue(lab, 3600, kind=kind)
    lab.cycle()
    assert [row.kind for row in lab.sql("SELECT kind FROM ops.alert_episodes")] == ["k"]
    lab.thresholds = parse_thresholds("queued=off")
    lab.cycle()
    assert lab.sql("SELECT * FROM ops.alert_episodes WHERE resolved_at IS NULL") == []
