"""What `ops db prune` deletes in the record, in Prefect's database and on disk, and what it leaves."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from deployments.prune import prefect_runs
from deployments.prune.prune import prune
from opsdb.database import connect
from opsdb.record.entries import Event
from opsdb.retention.amounts import Amounts
from opsdb.retention.old_runs import PAGE, read_event_days
from opsdb.runs.events import event_id_of
from opsdb.runs.sessions import join_session, make_session
from opsdb.settings import Settings
from tests.integration.deployments.prune.left import ids, in_prefect, recorded, write_output
from tests.support.old_runs import make_old_runs, prefect_url

LONG_AGO = 100


def rows(url: str, *tables: str) -> dict[str, int]:
    with psycopg.connect(url) as db:
        counts = [db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables]
        return {table: count[0] for table, count in zip(tables, counts, strict=True) if count}


CHILDREN = ("ops.run_states", "ops.run_steps", "ops.run_events", "ops.step_results", "ops.artifacts")


def test_old_run_goes_with_all_that_belongs_to_it_and_a_younger_one_stays(room: Settings) -> None:
    young = make_old_runs(room, days=80, count=2)
    make_old_runs(room, days=LONG_AGO, count=3)
    old_states = rows(room.ops_url, "ops.run_states")

    deleted = prune(room, by="person").document()

    assert recorded(room) == set(young) == in_prefect(room)
    assert old_states == {"ops.run_states": 15}
    per_run = {"ops.run_states": 3, "ops.run_steps": 3, "ops.run_events": 4, "ops.step_results": 0, "ops.artifacts": 1}
    assert rows(room.ops_url, *CHILDREN) == {name: 2 * count for name, count in per_run.items()}
    assert rows(prefect_url(room), "log", "flow_run_state", "artifact") == {
        "log": 10,
        "flow_run_state": 6,
        "artifact": 2,
    }
    assert {name: one["count"] for name, one in deleted.items()} == {
        "Prefect: runs": 3,
        "Prefect: run states": 9,
        "Prefect: logs": 15,
        "Prefect: artifacts": 3,
        "record: runs": 3,
        "record: run events": 12,
        "record: run states": 9,
        "record: run steps": 9,
        "record: artifacts": 3,
        "record: sessions": 1,
    }
    assert all(one["bytes"] > 0 and one["oldest_at"] for one in deleted.values())


def test_dry_run_says_what_would_go_and_deletes_nothing(room: Settings) -> None:
    old = make_old_runs(room, days=LONG_AGO, count=3)

    would_go = prune(room, by="person", dry=True).document()

    assert recorded(room) == set(old) == in_prefect(room)
    assert ids(room.ops_url, "SELECT started_by FROM ops.prunes") == {"installation"}
    went = prune(room, by="person").document()
    del went["record: sessions"]  # a session goes when its last run has gone
    counts = [{name: (one["count"], one["oldest_at"]) for name, one in each.items()} for each in (went, would_go)]
    assert counts[0] == counts[1]


def test_runs_that_others_build_on_stay_whatever_their_age_and_in_prefect_those_that_may_go_on(room: Settings) -> None:
    kept: dict[str, list[UUID]] = {}
    backup: dict[str, Any] = {"kind": "odoo_db_backup", "database": "shop"}
    kept["proves a backup"] = make_old_runs(room, days=900, count=2, **backup)
    kept["last try, since when nights count"] = make_old_runs(room, days=95, status="failed", **backup)
    kept["proves a restore"] = make_old_runs(room, days=900, kind="odoo_restore_drill")
    kept["a rollback takes it back"] = make_old_runs(room, days=900, kind="odoo_module_upgrade", status="failed")
    kept["the last of its kind that succeeded"] = make_old_runs(room, days=100, kind="disk_space")
    kept["an alert of it lasts"] = make_old_runs(room, days=900)
    with psycopg.connect(room.ops_url) as db:
        episode = "INSERT INTO ops.alert_episodes (rule, lane, subject, run_id) VALUES ('leftovers', 'A', 'run', %s)"
        db.execute(episode, kept["an alert of it lasts"])
    kept["not over"] = make_old_runs(room, days=900, status="running")
    goes_on: dict[str, Any] = {"kind": "deploy", "status": "failed", "resource": "droplet:one"}
    kept["can go on from where it failed"] = make_old_runs(room, days=100, **goes_on)
    gone = make_old_runs(room, days=101, kind="disk_space")
    gone += make_old_runs(room, days=101, **goes_on)  # the younger one did the same
    gone += make_old_runs(room, days=96, status="failed", **backup)  # and this is not the last try

    prune(room, by="person")

    assert recorded(room) & set(gone) == set() == in_prefect(room) & set(gone)
    for why, runs in kept.items():
        assert set(runs) <= recorded(room), why
    assert in_prefect(room) == {
        *kept["an alert of it lasts"],
        *kept["not over"],
        *kept["can go on from where it failed"],
        *kept["last try, since when nights count"],  # it failed after a step that succeeded, as did the upgrade
        *kept["a rollback takes it back"],
    }
    assert rows(room.ops_url, "ops.step_results") == {"ops.step_results": 3}  # of the try, the upgrade, the deployment


def test_counters_stand_where_they_stood(room: Settings) -> None:
    make_old_runs(room, days=LONG_AGO, count=PAGE + 10)
    counted = "SELECT name, kind, lane, label, sum(count), sum(value) FROM ops.metric_deltas GROUP BY 1, 2, 3, 4"
    with psycopg.connect(room.ops_url) as db:
        before = sorted(db.execute(counted).fetchall())

    prune(room, by="person")

    with psycopg.connect(room.ops_url) as db:
        assert sorted(db.execute(counted).fetchall()) == before
    assert recorded(room) == set()


@pytest.mark.gate
def test_run_that_prefect_has_and_that_is_not_over_there_stays_in_the_record(room: Settings) -> None:
    [run_id] = make_old_runs(room, days=LONG_AGO)
    with psycopg.connect(prefect_url(room)) as db:
        db.execute("UPDATE flow_run SET state_type = 'SCHEDULED', end_time = NULL")  # somebody retries it

    prune(room, by="person")

    assert recorded(room) == {run_id} == in_prefect(room)


@pytest.mark.gate
def test_run_that_begins_again_between_the_look_and_the_deletion_stays(
    room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    [run_id] = make_old_runs(room, days=LONG_AGO)
    deleting = prefect_runs.delete_runs

    def retried_first(*given: Any, **named: Any) -> Amounts:
        with psycopg.connect(prefect_url(room)) as db:
            db.execute("UPDATE flow_run SET state_type = 'SCHEDULED', end_time = NULL")
        return deleting(*given, **named)

    monkeypatch.setattr(prefect_runs, "delete_runs", retried_first)
    prune(room, by="person")

    assert recorded(room) == {run_id} == in_prefect(room)


@pytest.mark.gate
def test_run_that_another_transaction_holds_is_left_for_the_next_pass(room: Settings) -> None:
    old = make_old_runs(room, days=LONG_AGO, count=3)
    with psycopg.connect(room.ops_url) as db, psycopg.connect(prefect_url(room)) as prefect:
        db.execute("SELECT FROM ops.runs WHERE id = %s FOR UPDATE", [old[1]])
        prefect.execute("SELECT FROM flow_run WHERE id = %s FOR UPDATE", [old[2]])
        prune(room, by="person")
        assert recorded(room) == {old[1], old[2]}
        assert in_prefect(room) == {old[2]}
    prune(room, by="person")
    assert recorded(room) == set() == in_prefect(room)


def test_run_that_ended_in_prefect_and_was_never_recorded_stays_until_the_sync_has_seen_it(room: Settings) -> None:
    [run_id] = make_old_runs(room, days=LONG_AGO, recorded=False)
    with psycopg.connect(room.ops_url) as db:
        db.execute("UPDATE ops.sync_marks SET at = now() - interval '101 days'")  # it was down since
    prune(room, by="person")
    assert in_prefect(room) == {run_id}

    with psycopg.connect(room.ops_url) as db:
        db.execute("UPDATE ops.sync_marks SET at = now()")
    prune(room, by="person")
    assert in_prefect(room) == set()


@pytest.mark.gate
def test_tokens_of_clients_that_are_gone_go_and_those_of_a_living_worker_stay(room: Settings) -> None:
    made = "INSERT INTO csrf_token (token, client, expiration, created) VALUES (%s, %s, now() + '10 years', {})"
    with psycopg.connect(prefect_url(room)) as db:
        for days in (200, 120, 10):
            db.execute(made.format(f"now() - interval '{days} days'"), [str(uuid4()), str(days)])
    with psycopg.connect(room.ops_url) as db:
        db.execute("INSERT INTO ops.workers VALUES ('w', 'A', 'here', now() - interval '150 days', now())")

    prune(room, by="person")

    assert ids(prefect_url(room), "SELECT client FROM csrf_token") == {"120", "10"}


@pytest.mark.gate
def test_events_beyond_their_size_go_oldest_first_and_say_so(room: Settings) -> None:
    [old], [young] = make_old_runs(room, days=20), make_old_runs(room, days=2)
    messages = "SELECT message FROM ops.run_events WHERE run_id = %s"
    with connect(room, application="test").begin() as db:
        for event in (
            Event(old, message="left on the host", level="error"),
            Event(old, message="was at abc before", id=event_id_of(old, "place"), data={"commit": "abc"}),
        ):
            event.apply(db)
        db.execute(
            text("UPDATE ops.run_events SET created_at = now() - interval '20 days' WHERE run_id = :id"), {"id": old}
        )
        days = [at for at, _ in read_event_days(db)]

    deleted = prune(room.model_copy(update={"event_bytes": 900}), by="person").document()

    assert deleted["record: run events"]["count"] == 4
    assert ids(room.ops_url, messages, old) == {
        "left on the host",
        "was at abc before",
        f"events before {max(days):%Y-%m-%d} were deleted: those of all runs took more than OPS_EVENT_BYTES",
    }
    assert len(ids(room.ops_url, "SELECT id FROM ops.run_events WHERE run_id = %s", young)) == 4


def test_output_of_steps_goes_by_age_and_by_size_but_not_that_of_a_run_that_goes_on(room: Settings) -> None:
    [running] = make_old_runs(room, days=60, status="running")

    old, goes_on = write_output(room, uuid4(), days=31), write_output(room, running, days=60)
    not_a_run = write_output(room, "notes", days=400)
    big, newest = (write_output(room, uuid4(), days=days, size=900_000) for days in (3, 1))

    deleted = prune(room.model_copy(update={"log_bytes": 1_000_000}), by="person").document()

    assert {path.name for path in room.logs.iterdir()} == {goes_on, not_a_run, newest}
    assert deleted["files: output of steps"]["count"] == 2
    assert deleted["files: output of steps"]["bytes"] == 900_010
    assert old != big


def test_old_empty_session_that_a_run_joins_is_not_deleted_before_the_run_is_recorded(room: Settings) -> None:
    with connect(room, application="test").begin() as db:
        left, joined = (make_session(db, name=name) for name in ("left", "joined"))
        db.execute(text("UPDATE ops.sessions SET status = 'completed', updated_at = now() - interval '100 days'"))
        assert join_session(db, "joined") == joined
        assert join_session(db, str(joined)) == joined

    prune(room, by="person")

    assert {left, joined} & ids(room.ops_url, "SELECT id FROM ops.sessions") == {joined}
