"""Migrations against a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError

from opsdb import deployed, plan_tables, room_locks, tables  # noqa: F401 - the metadata holds what was imported
from opsdb.alerts import tables as alerts_tables  # noqa: F401 - the metadata holds what was imported
from opsdb.database import connect, driver_url
from opsdb.descriptions import ANYWHERE, RELATIONS
from opsdb.kinds import subjects  # noqa: F401 - the metadata holds what was imported
from opsdb.migrate import alembic_config, head, upgrade
from opsdb.retention import tables as retention_tables  # noqa: F401 - the metadata holds what was imported
from opsdb.runs import template_versions, totals  # noqa: F401 - the metadata holds what was imported
from opsdb.schedules import tables as schedules_tables  # noqa: F401 - the metadata holds what was imported
from opsdb.schema import SCHEMA, Table
from opsdb.settings import Settings


def test_migrations_make_what_the_tables_say(settings: Settings) -> None:
    engine = create_engine(driver_url(settings.ops_url))  # not ours: its search_path would hide the schema
    with engine.connect() as db:
        context = MigrationContext.configure(
            db,
            opts={
                "version_table_schema": SCHEMA,
                "include_schemas": True,
                "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        found = [d for d in compare_metadata(context, Table.metadata) if "alembic_version" not in str(d)]
    engine.dispose()
    differences = [one for one in map(str, found) if "_comment'" not in one]  # those are `opsdb.descriptions`'
    assert differences == []


def test_every_table_has_row_level_security_with_its_policies(settings: Settings) -> None:
    engine = create_engine(driver_url(settings.ops_url))
    with engine.connect() as db:
        rows = db.execute(
            text(
                "SELECT relname, relrowsecurity, ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid "
                "ORDER BY 1) FROM pg_class c WHERE relnamespace = 'ops'::regnamespace AND relkind IN ('r', 'p') "
                "AND relname <> 'alembic_version'"
            )
        ).all()
    engine.dispose()
    policies = {name: (on, policies) for name, on, policies in rows}
    assert policies.pop("step_results") == (True, ["room"])  # results of steps are the room's alone
    assert {name for name, found in policies.items() if found != (True, ["readers", "room"])} == set()


def test_every_table_view_and_column_is_described_and_nothing_else(settings: Settings) -> None:
    engine = connect(settings, role="superset_ro", application="test")
    with engine.connect() as db:
        rows = db.execute(
            text(
                "SELECT c.relname, a.attname, obj_description(c.oid, 'pg_class'), col_description(c.oid, a.attnum) "
                "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
                "WHERE c.relnamespace = 'ops'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')"
            )
        ).all()
    engine.dispose()
    lacking = [f"{relation}.{column}" for relation, column, *said in rows if not all(said)]
    assert lacking == [], "say in opsdb/descriptions.py what these hold"
    there = {relation: {column for one, column, *_ in rows if one == relation} for relation, *_ in rows}
    assert set(RELATIONS) == set(there)
    assert [f"{name}.{c}" for name, (_, columns) in RELATIONS.items() for c in columns if c not in there[name]] == []
    assert set(ANYWHERE) <= {column for columns in there.values() for column in columns}


def test_description_that_changed_is_brought_to_the_database(empty_database: str, settings: Settings) -> None:
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    upgrade(room)
    engine = create_engine(driver_url(empty_database))
    with engine.begin() as db:
        db.execute(text("COMMENT ON TABLE ops.runs IS 'old'"))
        db.execute(text("COMMENT ON COLUMN ops.runs.kind IS NULL"))
    upgrade(room)
    with engine.connect() as db:
        query = "SELECT obj_description('ops.runs'::regclass, 'pg_class'), col_description('ops.runs'::regclass, 3)"
        assert tuple(db.execute(text(query)).one()) == (RELATIONS["runs"][0], ANYWHERE["kind"])
    engine.dispose()


def test_upgrade_can_run_twice_and_at_once(empty_database: str, settings: Settings) -> None:
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(upgrade, [room, room])) == [head(), head()]
    assert upgrade(room) == head()


@pytest.mark.parametrize("role", ["ops_monitor", "superset_ro"])
def test_readers_read_and_nothing_more(settings: Settings, role: str) -> None:
    engine = connect(settings, role=role, application="test")
    with engine.connect() as db:
        for table in {*Table.metadata.tables, "ops.session_progress"} - {"ops.step_results"}:
            db.execute(text(f"SELECT count(*) FROM {table}"))
    for forbidden in (
        "INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'x')",
        "UPDATE ops.runs SET status = 'queued'",
        "DELETE FROM ops.run_events",
        "TRUNCATE ops.runs",
        "SELECT count(*) FROM ops.step_results",  # what steps wrote is for the room alone
        "CREATE TABLE ops.mine (x int)",
    ):
        with engine.connect() as db, pytest.raises(ProgrammingError, match="permission denied"):
            db.execute(text(forbidden))
    engine.dispose()


def test_the_writer_owns_nothing(settings: Settings) -> None:
    engine = connect(settings, application="test")
    for forbidden in ("DROP TABLE ops.runs", "ALTER TABLE ops.runs DISABLE ROW LEVEL SECURITY"):
        with engine.connect() as db, pytest.raises(ProgrammingError, match="must be owner"):
            db.execute(text(forbidden))
    engine.dispose()


def test_history_from_before_the_metrics_is_counted_once(empty_database: str, settings: Settings) -> None:
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    engine = create_engine(driver_url(empty_database))
    with engine.begin() as db:
        db.execute(text("CREATE SCHEMA ops AUTHORIZATION ops_owner"))
        db.execute(text("SET LOCAL ROLE ops_owner"))
        command.upgrade(alembic_config(db), "0001")
        db.execute(text("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'old')"))
        db.execute(
            text(
                "INSERT INTO ops.runs (id, session_id, kind, lane, status, finished_at, state_id, state_at) "
                "SELECT gen_random_uuid(), s.id, 'deploy', 'A', 'failed', '2026-01-01Z', gen_random_uuid(), now() "
                "FROM ops.sessions s, generate_series(1, 3)"
            )
        )
    upgrade(room)
    with engine.connect() as db:
        rows = db.execute(text("SELECT name, label, count, latest_at::text FROM ops.metric_totals ORDER BY name")).all()
        assert db.scalar(text("SELECT count(*) FROM ops.metric_deltas")) == 0
    engine.dispose()
    assert [tuple(row[:3]) for row in rows] == [("created", "", 3), ("finished", "failed", 3)]
    assert rows[1][3].startswith("2026-01-01")


HISTORY = """
INSERT INTO ops.runs (id, session_id, kind, lane, status, outcome, params, result, error, tick, created_at, started_at,
                      finished_at, outcome_at, due_at, state_id, state_at)
SELECT gen_random_uuid(), session.id, 'odoo_db_backup', 'A', one.status, one.outcome,
       jsonb_build_object('odoo_db', 'db_' || n % 40), jsonb_build_object('size_bytes', n),
       CASE WHEN one.outcome = 'failed' THEN jsonb_build_object('message', n % 3, 'type', one.error) END,
       CASE WHEN n % 40 < 5 THEN 'x' END,
       at.at, CASE WHEN one.status <> 'queued' THEN at.at + interval '1 minute' * (n % 7 - 2) END,
       CASE WHEN one.status IN ('succeeded', 'failed', 'cancelled') THEN at.at + interval '1 hour' END,
       CASE WHEN one.outcome <> '' THEN at.at + interval '59 minutes' END,
       CASE WHEN one.status = 'queued' THEN at.at END, gen_random_uuid(), at.at
FROM ops.sessions session, generate_series(1, 20000) n,
     -- of some databases all failed, of some by an unknown name; of some the last one was good
     LATERAL (SELECT timestamptz '2026-06-01Z' + interval '1 minute' * ((n::bigint * 7919) % 20011) AS at) at,
     LATERAL (SELECT (ARRAY['succeeded', 'failed', 'failed', 'cancelled', 'set', 'queued', 'running'])
                       [1 + (n / 40) % CASE WHEN n % 4 = 0 THEN 7 ELSE 5 END] AS word) word,
     LATERAL (SELECT CASE WHEN n % 40 < 15 AND word IN ('succeeded', 'set') THEN 'failed' ELSE word END AS word) made,
     LATERAL (SELECT CASE made.word WHEN 'set' THEN 'succeeded' ELSE made.word END AS status,
                     CASE WHEN made.word IN ('failed', 'set') THEN 'failed'
                          WHEN made.word = 'succeeded' THEN 'succeeded' END AS outcome,
                     CASE WHEN n % 40 < 10 THEN 'UnknownDatabase' ELSE 'StepFailed' END AS error) one
"""


def test_databases_are_the_same_after_the_migration_that_looks_them_up(empty_database: str, settings: Settings) -> None:
    engine = create_engine(driver_url(empty_database))
    query = text(
        "SELECT database, first_tried_at, last_tried_at, last_failed_at, last_verified_at, last_size_bytes, "
        "watched, last_error FROM ops.databases ORDER BY 1"
    )
    with engine.begin() as db:
        db.execute(text("CREATE SCHEMA ops AUTHORIZATION ops_owner"))
        db.execute(text("SET LOCAL ROLE ops_owner"))
        command.upgrade(alembic_config(db), "0019")
        db.execute(text("INSERT INTO ops.sessions (id, name) VALUES (gen_random_uuid(), 'old')"))
        db.execute(text(HISTORY))
        before = db.execute(query).all()
    upgrade(settings.model_copy(update={"database_url": SecretStr(empty_database)}))
    with engine.connect() as db:
        after = db.execute(query).all()
    engine.dispose()
    assert len(after) == 35  # five names are mistyped ones
    assert [row[:-1] for row in after] == [row[:-1] for row in before]
    made_good = {row.database for row in after if row.last_verified_at and row.last_verified_at > row.last_failed_at}
    assert len(made_good) > 5
    errors = {row.database: None if row.database in made_good else row.last_error for row in before}
    assert {row.database: row.last_error for row in after} == errors


@pytest.mark.gate
def test_last_migration_can_be_taken_back_and_done_again(empty_database: str, settings: Settings) -> None:
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    upgrade(room)
    engine = create_engine(driver_url(empty_database))
    with engine.begin() as db:
        db.execute(text("SET LOCAL ROLE ops_owner"))
        command.downgrade(alembic_config(db), "-1")
    engine.dispose()
    assert upgrade(room) == head()
