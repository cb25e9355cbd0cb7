"""The views for Superset on a real PostgreSQL: what they say, also of an empty database, and who may read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from opsdb.alerts.episodes import Rule
from opsdb.alerts.rules import QUERIES
from opsdb.database import connect
from opsdb.runs.sweeper import sweep
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.tables import Lane
from tests.integration.sweeper_case import Case

VIEWS = (
    "success_rate_24h",
    "avg_duration_by_kind_7d",
    "stuck_runs",
    "runs_by_status_and_lane",
    "hourly_error_rate_7d",
    "backup_freshness",
    "backup_nights",
    "databases",
)
OF_THE_ROOM = ("backup_nights", "databases")  # the room itself reads them, too
READERS = ("ops_monitor", "superset_ro")


@pytest.fixture
def admin(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(settings.ops_url, autocommit=True) as db:
        yield db


def add(db: psycopg.Connection[Any], status: str, *, kind: str = "k", lane: str = "A", **columns: str) -> None:
    """A run that ended by its own process; the values of `columns` are SQL."""
    if status in ("succeeded", "failed", "cancelled"):
        columns = {"finished_at": "now()"} | columns
    if status in ("succeeded", "failed"):
        columns = {"outcome": f"'{status}'"} | columns
    values = {"id": "gen_random_uuid()", "state_id": "gen_random_uuid()", "state_at": "now()"} | columns
    values |= {"kind": f"'{kind}'", "lane": f"'{lane}'", "status": f"'{status}'", "session_id": "(SELECT id FROM s)"}
    db.execute(
        "INSERT INTO ops.sessions (id, name) SELECT gen_random_uuid(), 's' WHERE NOT EXISTS (TABLE ops.sessions)"
    )
    db.execute(
        f"WITH s AS (SELECT id FROM ops.sessions LIMIT 1) "
        f"INSERT INTO ops.runs ({', '.join(values)}) SELECT {', '.join(values.values())}"
    )


def read(settings: Settings, query: str, *, role: str = "superset_ro") -> list[tuple[Any, ...]]:
    """What a reader gets."""
    engine = connect(settings, role=role, application="test")
    try:
        with engine.connect() as db:
            return [tuple(row) for row in db.execute(text(query))]
    finally:
        engine.dispose()


@pytest.mark.parametrize("role", READERS)
def test_views_answer_on_an_empty_database(settings: Settings, role: str) -> None:
    assert read(settings, "TABLE ops.success_rate_24h", role=role) == [(None, 0, 0, 0, 0, 0)]
    assert read(settings, "TABLE ops.avg_duration_by_kind_7d", role=role) == []
    assert read(settings, "TABLE ops.stuck_runs", role=role) == []
    assert read(settings, "TABLE ops.backup_freshness", role=role) == []
    assert read(settings, "TABLE ops.backup_nights", role=role) == []
    grid = {(lane, status, 0) for lane in Lane for status in ("planned", *RunStatus)}
    assert set(read(settings, "TABLE ops.runs_by_status_and_lane", role=role)) == grid
    hours = read(settings, "TABLE ops.hourly_error_rate_7d", role=role)
    assert len(hours) == 7 * 24
    assert {row[1:] for row in hours} == {(0, 0, None)}


@pytest.mark.parametrize("view", VIEWS)
def test_nobody_else_reads_them(settings: Settings, admin: psycopg.Connection[Any], view: str) -> None:
    stranger = f"stranger_{uuid4().hex}"
    admin.execute(f"CREATE ROLE {stranger}")
    admin.execute(f"GRANT USAGE ON SCHEMA ops TO {stranger}")
    try:
        for role in [stranger] + ["ops_writer"] * (view not in OF_THE_ROOM):
            with pytest.raises(ProgrammingError, match=f"permission denied for view {view}"):
                read(settings, f"TABLE ops.{view}", role=role)
    finally:
        admin.execute(f"DROP OWNED BY {stranger}")
        admin.execute(f"DROP ROLE {stranger}")


def test_login_that_was_granted_the_role_sees_the_rows(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    add(admin, "succeeded")
    login = f"login_{uuid4().hex}"
    admin.execute(f"CREATE ROLE {login} IN ROLE superset_ro")
    try:
        assert read(settings, "SELECT total_runs FROM ops.success_rate_24h", role=login) == [(1,)]
    finally:
        admin.execute(f"DROP ROLE {login}")


@pytest.mark.parametrize("view", VIEWS)
def test_views_show_what_the_readers_own_rights_show(
    settings: Settings, admin: psycopg.Connection[Any], view: str
) -> None:
    admin.execute("REVOKE SELECT ON ops.runs FROM superset_ro")
    with pytest.raises(ProgrammingError, match="permission denied for table runs"):
        read(settings, f"TABLE ops.{view}")


def test_success_rate_counts_runs_that_ended_by_themselves(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    for status in ("succeeded", "succeeded", "failed", "cancelled", "queued", "running"):
        add(admin, status)
    add(admin, "failed", created_at="now() - interval '25 hours'")
    query = "SELECT success_rate, total_runs, succeeded, failed, cancelled, unfinished FROM ops.success_rate_24h"
    [(rate, *counts)] = read(settings, query)
    assert (float(rate), counts) == (66.67, [6, 2, 1, 1, 2])


def test_success_rate_of_unfinished_runs_is_not_known(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    add(admin, "running")
    assert read(settings, "SELECT success_rate, total_runs FROM ops.success_rate_24h") == [(None, 1)]


OLD = "now() - interval '8 days'"


def test_durations_are_by_kind_and_longest_first(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    for kind, seconds in (("short", 10), ("long", 100), ("long", 300)):
        add(admin, "succeeded", kind=kind, started_at=f"now() - interval '{seconds} s'", created_at=OLD)
    add(admin, "failed", kind="short", started_at="now() - interval '1 day'")
    add(admin, "succeeded", kind="short")  # nobody saw it start
    add(admin, "succeeded", kind="old", started_at=f"{OLD} - interval '1 s'", finished_at=OLD, created_at="now()")
    rows = [(kind, *map(float, values)) for kind, *values in read(settings, "TABLE ops.avg_duration_by_kind_7d")]
    assert rows == [("long", 200, 290, 2), ("short", 10, 10, 1)]


def test_runs_are_counted_by_status_and_lane(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    for status, lane in (("queued", "A"), ("queued", "A"), ("failed", "D")):
        add(admin, status, lane=lane)
    query = "SELECT lane::text, status, runs FROM ops.runs_by_status_and_lane WHERE runs > 0"
    assert read(settings, query) == [("A", "queued", 2), ("D", "failed", 1)]


def test_what_is_planned_for_later_is_in_no_figure_of_today(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    later = "now() + interval '3 hours'"
    add(admin, "queued", created_at=later, due_at=later)
    add(admin, "queued", due_at=later)
    add(admin, "queued", due_at="now() - interval '1 s'")
    query = "SELECT status, runs FROM ops.runs_by_status_and_lane WHERE runs > 0"
    assert read(settings, query) == [("planned", 2), ("queued", 1)]
    assert read(settings, "SELECT total_runs, unfinished FROM ops.success_rate_24h") == [(1, 1)]


def test_error_rate_is_by_the_hour_in_which_runs_ended(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    def ended(status: str, hours: int) -> None:
        add(admin, status, finished_at=f"date_trunc('hour', now(), 'UTC') - interval '{hours} hours'")

    for status, hours in (("failed", 2), ("succeeded", 2), ("cancelled", 2), ("cancelled", 3), ("failed", 167)):
        ended(status, hours)
    ended("failed", 168)
    query = (
        "SELECT extract(epoch FROM date_trunc('hour', now(), 'UTC') - hour)::int / 3600, ended, failed, error_rate "
        "FROM ops.hourly_error_rate_7d WHERE ended > 0"
    )
    rows = [(hour, *counts, None if rate is None else float(rate)) for hour, *counts, rate in read(settings, query)]
    assert rows in (
        [(167, 1, 1, 100.0), (3, 1, 0, None), (2, 3, 1, 50.0)],
        [(4, 1, 0, None), (3, 3, 1, 50.0)],  # an hour began meanwhile
    )


def test_error_rate_does_not_depend_on_the_readers_time_zone(
    settings: Settings, admin: psycopg.Connection[Any]
) -> None:
    add(admin, "failed")
    admin.execute("SET TIME ZONE 'Asia/Kathmandu'")  # 45 minutes off the hour
    assert admin.execute("SELECT sum(ended) FROM ops.hourly_error_rate_7d").fetchone() == (1,)


def backup(db: psycopg.Connection[Any], status: str, database: str, hours: float, **result: Any) -> None:
    add(
        db,
        status,
        kind="odoo_db_backup",
        params=f"'{json.dumps({'odoo_db': database})}'",
        finished_at=f"now() - interval '{hours} hours'",
        result=f"'{json.dumps(result)}'",
    )


def test_backup_freshness_is_by_the_last_verified_one(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    backup(admin, "succeeded", "fresh", 50, size_bytes=10)
    backup(admin, "succeeded", "fresh", 25, size_bytes=20)
    backup(admin, "failed", "fresh", 1)
    backup(admin, "succeeded", "old", 27, size_bytes="unknown")
    backup(admin, "failed", "never", 1)
    backup(admin, "succeeded", "", 1)
    add(admin, "succeeded", params='\'{"odoo_db": "elsewhere"}\'')  # of another kind
    query = (
        "SELECT database, fresh, round(age_seconds / 3600), last_size_bytes, last_failed_at IS NOT NULL "
        "FROM ops.backup_freshness"
    )
    assert read(settings, query) == [
        ("fresh", True, 25, 20, True),
        ("never", False, None, None, True),
        ("old", False, 27, None, False),
    ]


@pytest.mark.promise(9)
def test_failed_backup_that_somebody_set_to_completed_is_not_fresh(
    settings: Settings, admin: psycopg.Connection[Any]
) -> None:
    backup(admin, "failed", "prod", 2)
    admin.execute("UPDATE ops.runs SET status = 'succeeded', created_at = now() - interval '10 days'")
    assert read(settings, "SELECT database, fresh, last_verified_at FROM ops.backup_freshness") == [
        ("prod", False, None)
    ]
    assert read(settings, "SELECT fresh_nights FROM ops.backup_nights") == [(0,)]


def test_name_that_was_mistyped_is_not_a_database(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    unknown = "'" + json.dumps({"type": "UnknownDatabase"}) + "'"

    def failed(database: str, hours: float, error: str) -> None:
        params = f"'{json.dumps({'odoo_db': database})}'"
        ended = f"now() - interval '{hours} hours'"
        add(admin, "failed", kind="odoo_db_backup", params=params, finished_at=ended, error=error)

    failed("nope", 1, unknown)
    failed("made_since", 2, unknown)
    failed("made_since", 1, '\'{"type": "StepFailed"}\'')
    backup(admin, "succeeded", "dropped", 30)
    failed("dropped", 1, unknown)
    failed("of_a_schedule", 1, unknown)
    admin.execute("UPDATE ops.runs SET tick = 'x' WHERE params ->> 'odoo_db' = 'of_a_schedule'")
    rows = read(settings, "SELECT database, fresh FROM ops.backup_freshness")
    assert rows == [("dropped", False), ("made_since", False), ("of_a_schedule", False)]


NIGHT = "date_trunc('day', now() - interval '6 hours', 'UTC') + interval '6 hours'"  # the last one that is judged


def verified(db: psycopg.Connection[Any], database: str, nights_ago: int, hours_before: float, **columns: str) -> None:
    """A good backup that ended so long before 06:00 UTC of a night, and was begun a minute before that."""
    at = f"{NIGHT} - interval '{24 * nights_ago} hours' - interval '{hours_before} hours'"
    made = {"created_at": f"{at} - interval '1 minute'", "finished_at": at}
    params = f"'{json.dumps({'odoo_db': database})}'"
    add(db, "succeeded", kind="odoo_db_backup", params=params, **(made | columns))


def nights(settings: Settings) -> dict[str, tuple[int, int, int | None]]:
    """Fresh and judged nights by database, and how many nights ago the last one without was."""
    query = f"SELECT database, fresh_nights, nights, extract(day FROM {NIGHT} - last_without_at) FROM ops.backup_nights"
    return {name: (fresh, of, None if ago is None else int(ago)) for name, fresh, of, ago in read(settings, query)}


def test_nights_count_what_was_fresh_at_six(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    for night in range(40):
        verified(admin, "well", night, 3)
        if night not in (4, 9):  # at six the one of the night before is 27 hours old
            verified(admin, "missed", night, 3)
        if night % 2 == 0:
            verified(admin, "every_other", night, 3)
    for night in range(12):
        verified(admin, "new", night, 3)
    verified(admin, "today", 0, -0.02)  # first tried a few seconds after six
    verified(admin, "edge", 0, 26)  # a moment too old for its night, and fresh for the one before
    verified(admin, "edge", 2, 25.99)  # fresh for two nights
    assert nights(settings) == {
        "well": (30, 30, None),
        "missed": (28, 30, 4),
        "every_other": (15, 30, 1),
        "new": (12, 12, None),
        "today": (0, 0, None),
        "edge": (3, 4, 0),
    }


def test_night_counts_from_the_first_try_and_without_a_slip(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    def tried(database: str, nights_ago: int, error: str = "StepFailed", **columns: str) -> None:
        at = f"{NIGHT} - interval '{24 * nights_ago} hours' - interval '1 hour'"
        params, why = f"'{json.dumps({'odoo_db': database})}'", f"'{json.dumps({'type': error})}'"
        given = {"params": params, "created_at": at, "finished_at": at, "error": why} | columns
        add(admin, "failed", kind="odoo_db_backup", **given)

    tried("never", 4)
    tried("mistyped", 4, "UnknownDatabase")
    tried("of_a_schedule", 4, "UnknownDatabase", tick="'x'")
    verified(admin, "back", 200, 3)  # taken off its schedule for months: those nights count
    tried("back", 1)
    verified(admin, "stopped", 35, 3)  # nobody has tried it within the time that is judged
    for gone in ("forgotten", "tried_since"):
        verified(admin, gone, 9, 3)
        admin.execute(
            "INSERT INTO ops.alert_episodes (rule, lane, subject, kind, opened_at, resolved_at, facts) VALUES "
            "('backup', 'room', %s, 'odoo_db_backup', now(), now(), "
            "jsonb_build_object('forgotten_at', now() - interval '2 minutes'))",
            [gone],
        )
    tried("tried_since", 0, created_at="now() - interval '1 minute'", finished_at="now()")
    assert nights(settings) == {
        "never": (0, 5, 0),
        "of_a_schedule": (0, 5, 0),
        "back": (0, 30, 0),
        "tried_since": (1, 10, 0),
    }
    watched = {row[0] for row in read(settings, "SELECT database FROM ops.databases")}
    assert watched == {*nights(settings), "stopped", "forgotten"}
    alerted = QUERIES[Rule.BACKUP].replace(":seconds", "0")
    with psycopg.connect(settings.ops_url) as room:
        subjects = {row[0] for row in room.execute(alerted.encode()).fetchall()}
    assert subjects == watched - {"stopped", "forgotten"}  # the room's own alert calls the same names databases


def test_night_counts_what_was_verified_before_prefect_heard_of_it(
    settings: Settings, admin: psycopg.Connection[Any]
) -> None:
    late = {"finished_at": f"{NIGHT} + interval '2 hours'", "outcome_at": f"{NIGHT} - interval '1 hour'"}
    verified(admin, "late", 0, 2, **late)
    assert nights(settings) == {"late": (1, 1, None)}


def test_nights_do_not_depend_on_the_readers_time_zone(settings: Settings, admin: psycopg.Connection[Any]) -> None:
    for night in range(40):
        verified(admin, "well", night, 26 if night % 2 else 1)
    admin.execute("SET TIME ZONE 'America/New_York'")  # clocks were put back within 30 days, or an hour is off
    assert admin.execute("SELECT fresh_nights, nights FROM ops.backup_nights").fetchone() == (30, 30)


MARKS = {
    "watched for long": "SELECT 1",
    "watched for 45 s": "UPDATE ops.sync_marks SET at = clock_timestamp() - interval '45 s' WHERE name = 'sweep'",
    "watched for 10 s": "UPDATE ops.sync_marks SET at = clock_timestamp() - interval '10 s' WHERE name = 'sweep'",
    "Prefect away": "UPDATE ops.sync_marks SET updated_at = clock_timestamp() - interval '60 s' WHERE name = 'prefect'",
    "Prefect back": "UPDATE ops.sync_marks SET at = clock_timestamp() - interval '10 s' WHERE name = 'prefect'",
}


@pytest.mark.parametrize("marks", MARKS)
def test_stuck_runs_are_those_that_the_sweeper_fences(watched: Engine, settings: Settings, marks: str) -> None:
    lives = [
        ("SCHEDULED",),
        ("PENDING",),
        ("PENDING", "RUNNING"),
        ("PENDING", "RUNNING", "CANCELLING"),
        ("RUNNING", "COMPLETED"),
    ]
    for states in lives:
        for age in ("5 s", "25 s", "35 s", "55 s", "65 s", "1 day", None):
            for also in ("", ", outcome = 'succeeded', outcome_at = clock_timestamp()"):
                case = Case(watched, settings)
                case.states(*states)
                case.set(
                    f"heartbeat_at = clock_timestamp() - interval '{age}'" + also
                    if age
                    else "heartbeat_at = NULL" + also
                )
    with watched.begin() as db:
        db.execute(text("UPDATE ops.sync_marks SET updated_at = clock_timestamp()"))
        db.execute(text(MARKS[marks]))
    seen = {row[0] for row in read(settings, "SELECT id FROM ops.stuck_runs")}
    with watched.begin() as db:
        fenced = {fence.run_id for fence in sweep(db, settings) if fence.reason != "Cancelled"}
    assert seen == fenced
    if marks == "watched for long":
        assert len(seen) == 8  # running: 35, 55, 65 s, 1 day, never; claimed: 65 s, 1 day, never
        assert {row[0] for row in read(settings, "SELECT id FROM ops.stuck_runs")} == seen  # until they are over


def test_stuck_run_is_told_with_what_an_operator_needs(watched: Engine, settings: Settings) -> None:
    case = Case(watched, settings)
    case.states("PENDING", "RUNNING")
    case.set("claimed_by = 'host-1', heartbeat_at = clock_timestamp() - interval '100 s'")
    query = "SELECT id, kind, lane::text, status, claimed_by, seconds_since_heartbeat, fenced_at FROM ops.stuck_runs"
    [(run_id, kind, lane, status, worker, seconds, fenced_at)] = read(settings, query)
    assert (run_id, kind, lane, status, worker, fenced_at) == (case.id, "k", "A", "running", "host-1", None)
    assert 100 <= seconds < 160


def test_stuck_runs_are_seen_while_nobody_sweeps(watched: Engine, settings: Settings) -> None:
    case = Case(watched, settings)
    case.states("PENDING", "RUNNING")
    case.age(300)
    with watched.begin() as db:
        db.execute(text("UPDATE ops.sync_marks SET updated_at = updated_at - interval '1 hour'"))
    assert read(settings, "SELECT count(*) FROM ops.stuck_runs") == [(1,)]
