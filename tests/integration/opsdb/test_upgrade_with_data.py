"""Migrations forward on a database with rows of every version, while processes of the version before write to it."""

from __future__ import annotations

import threading
from uuid import UUID, uuid5

import psycopg
import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import Connection, create_engine, text

from opsdb.database import driver_url
from opsdb.migrate import alembic_config, head, revisions, upgrade
from opsdb.runs.lookup import read_run, reading
from opsdb.settings import Settings

NAMESPACE = UUID(int=23)
FIRST = ("sessions", "runs", "alert_incidents", "alert_messages")
"""Tables that others refer to."""
COLUMNS = text("""
SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'ops'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
  AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
""")
CHOSEN = {
    ("artifacts", "kind"): "'text'",
    ("run_steps", "status"): "'succeeded'",
    ("runs", "lane"): "'A'",
    ("runs", "kind"): "'odoo_db_backup'",
    ("alert_messages", "event"): "'firing'",
    ("alert_messages", "level"): "'info'",
    ("alert_messages", "incident_id"): "(SELECT max(id) FROM ops.alert_incidents)",
    ("alert_deliveries", "message_id"): "(SELECT max(id) FROM ops.alert_messages)",
    ("schedule_rules", "source"): "'person'",
    ("prunes", "started_by"): "'person'",
}
"""What a column holds that does not take any value of its type."""


def run_of(revision: str) -> UUID:
    return uuid5(NAMESPACE, f"run {revision}")


def fill(db: Connection, revision: str) -> list[str]:
    """Put a row into each table that there is at this revision, with a value wherever one is needed."""
    needed: dict[str, dict[str, str]] = {}
    for row in db.execute(COLUMNS):
        needed.setdefault(row.table, {})[row.column] = value_of(row.table, row.column, row.type, revision)
    needed["runs"] |= {"status": "'succeeded'", "started_at": "now()", "finished_at": "now()"}
    needed["runs"] |= {"outcome": "'succeeded'", "params": """'{"odoo_db": "shop"}'"""}
    for table in sorted(needed, key=lambda name: (name not in FIRST, name if name not in FIRST else FIRST.index(name))):
        columns = ", ".join(f'"{name}"' for name in needed[table])
        db.execute(text(f"INSERT INTO ops.{table} ({columns}) VALUES ({', '.join(needed[table].values())})"))
    return list(needed)


def value_of(table: str, column: str, type_: str, revision: str) -> str:
    if (chosen := CHOSEN.get((table, column))) is not None:
        return chosen
    if type_ == "uuid":
        known = {"run_id": run_of(revision), "session_id": uuid5(NAMESPACE, f"session {revision}")}
        known |= {
            "id": {"runs": run_of(revision), "sessions": known["session_id"]}.get(table, uuid5(NAMESPACE, revision))
        }
        return f"'{known.get(column, uuid5(NAMESPACE, column + revision))}'"
    values = {"text": f"'{column} {revision}'", "timestamp with time zone": "now()", "boolean": "true"}
    return values.get(type_, str(int(revision)))


def at_revision(url: str, revision: str) -> None:
    engine = create_engine(driver_url(url))
    with engine.begin() as db:
        db.execute(text("CREATE SCHEMA IF NOT EXISTS ops AUTHORIZATION ops_owner"))
        db.execute(text("SET LOCAL ROLE ops_owner"))
        command.upgrade(alembic_config(db), revision)
    engine.dispose()


@pytest.mark.gate
def test_rows_of_every_version_reach_the_newest_and_are_read_there(empty_database: str, settings: Settings) -> None:
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    engine = create_engine(driver_url(empty_database))
    filled: dict[str, int] = {}
    for revision in reversed(revisions()):
        at_revision(empty_database, revision)
        with engine.begin() as db:
            for table in fill(db, revision):
                filled[table] = filled.get(table, 0) + 1
    upgrade(room)
    with engine.connect() as db:
        left = {table: db.execute(text(f"SELECT count(*) FROM ops.{table}")).scalar_one() for table in filled}
    engine.dispose()
    assert {table: filled[table] - count for table, count in left.items() if count < filled[table]} == {}
    with reading(room) as db:
        for revision in revisions():
            details = read_run(db, run_of(revision))
            assert details is not None
            assert (len(details.steps), len(details.events), len(details.artifacts)) == (1, 1, 1)
        assert db.scalar(
            text(
                "SELECT sum(count) FROM (SELECT count FROM ops.metric_totals WHERE name = 'created' "
                "UNION ALL SELECT count FROM ops.metric_deltas WHERE name = 'created') c"
            )
        ) == len(revisions())
        assert db.scalar(text("SELECT last_verified_at FROM ops.databases WHERE database = 'shop'")) is not None


@pytest.mark.parametrize("revision", [pytest.param("0001", marks=pytest.mark.gate), revisions()[1]])
def test_runs_that_are_written_to_meanwhile_keep_every_word(
    empty_database: str, settings: Settings, revision: str
) -> None:
    """A run process of the version before says what it has to say, and says it again when a deadlock ends it."""
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    at_revision(empty_database, revision)
    engine = create_engine(driver_url(empty_database))
    with engine.begin() as db:
        fill(db, revision)
    over, begun = threading.Event(), threading.Event()
    written, refused = [], []

    def write() -> None:
        with psycopg.connect(empty_database) as db:
            db.execute("SET ROLE ops_writer")
            db.commit()
            while not over.is_set():
                try:
                    db.execute("UPDATE ops.runs SET heartbeat_at = clock_timestamp() WHERE id = %s", [run_of(revision)])
                    made = db.execute(
                        "INSERT INTO ops.run_events (id, run_id, message) VALUES (gen_random_uuid(), %s, 'beats') "
                        "RETURNING id",
                        [run_of(revision)],
                    ).fetchone()
                    db.commit()
                    written.append(made)
                except psycopg.errors.DeadlockDetected:
                    db.rollback()
                except psycopg.Error as error:
                    refused.append(str(error))
                    return
                finally:
                    begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(30)
    try:
        assert upgrade(room) == head()
        before = len(written)
        while len(written) == before and writer.is_alive():
            over.wait(0.01)
    finally:
        over.set()
        writer.join(30)
    assert refused == []
    with engine.connect() as db:
        count = db.scalar(text("SELECT count(*) FROM ops.run_events WHERE message = 'beats'"))
    engine.dispose()
    assert count == len(written) > before
