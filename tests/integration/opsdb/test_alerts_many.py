"""10,000 subjects at once, on tables of which the server has no statistics yet."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from opsdb.alerts.endings import SUCCESSES
from opsdb.alerts.episodes import Rule
from opsdb.alerts.rules import QUERIES
from opsdb.database import connect
from opsdb.settings import Settings
from tests.support.alerts_lab import Lab


def test_10000_late_runs_are_one_message_and_one_end(settings: Settings) -> None:
    engine = connect(settings, application="test", statement_seconds=10)
    lab = Lab(engine)
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() + interval '1 h'")  # Prefect answers, however slow this is
    lab.run(status="queued", state="SCHEDULED", state_name="Late", age=3600)
    lab.sql(
        "WITH r AS (INSERT INTO ops.runs (id, session_id, kind, lane, status, created_at, state_id, state_at) "
        "SELECT gen_random_uuid(), session_id, kind, lane, status, created_at, gen_random_uuid(), state_at "
        "FROM ops.runs, generate_series(1, 9999) RETURNING id, state_id) "
        "INSERT INTO ops.run_states (id, run_id, at, type, name, recorded_at) "
        "SELECT state_id, id, now(), 'SCHEDULED', 'Late', now() - interval '1 h' FROM r"
    )
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "queued", "A", 10_000)]
    lab.sql("UPDATE ops.runs SET status = 'running'")
    assert lab.cycle() == []
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "queued", "A", 10_000)]
    engine.dispose()


def test_10000_failed_backups_beside_as_many_good_ones_are_one_message(settings: Settings) -> None:
    engine = connect(settings, application="test", statement_seconds=10)
    lab = Lab(engine)
    lab.sql("UPDATE ops.sync_marks SET updated_at = now() + interval '1 h'")  # Prefect answers, however slow this is
    lab.finish(lab.run(kind="odoo_db_backup", resource="odoo_db:odoo_prod"))
    lab.sql("INSERT INTO ops.sessions (id, name) SELECT gen_random_uuid(), 'night' FROM generate_series(1, 9999)")
    lab.sql(  # each in a session of its own: in one they would be tries of the same thing
        "INSERT INTO ops.runs (id, session_id, kind, lane, status, resource, created_at, finished_at, state_id, "
        "state_at) SELECT gen_random_uuid(), n.id, kind, lane, s, resource, r.created_at, "
        "finished_at - interval '1 s' * (s = 'succeeded')::int, state_id, state_at "
        "FROM ops.runs r, ops.sessions n, unnest(ARRAY['failed', 'succeeded']) s WHERE n.name = 'night'"
    )
    lab.sql("UPDATE ops.runs SET updated_at = now() - interval '31 s'")
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "failed", "A", 10_000)]
    lab.finish(lab.run(kind="odoo_db_backup", resource="odoo_db:odoo_prod"), "succeeded")
    assert lab.cycle() == []
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "failed", "A", 10_000)]
    engine.dispose()


@pytest.mark.parametrize("analyzed", [True, False], ids=["with statistics", "without"])
def test_no_rule_reads_the_history(settings: Settings, analyzed: bool) -> None:
    engine = connect(settings, application="test")
    lab = Lab(engine)
    recent = lab.run(kind="odoo_db_backup", params='{"odoo_db": "prod"}', status="queued")
    for status in ("succeeded", "failed"):
        copies(lab, recent, status=status, kinds=["odoo_db_backup", "deploy"])
    for status in ("failed", "succeeded"):
        lab.finish(lab.run(kind="odoo_db_backup", params='{"odoo_db": "prod"}'), status)
    if analyzed:
        lab.sql("ANALYZE ops.runs")
    for name, query in [*QUERIES.items(), ("successes", SUCCESSES.text)]:
        assert rows_read(lab, name, query) <= 10
    engine.dispose()


@pytest.mark.parametrize("analyzed", [True, False], ids=["with statistics", "without"])
def test_name_that_is_mistyped_again_and_again_is_looked_at_a_thousand_times(
    settings: Settings, analyzed: bool
) -> None:
    engine = connect(settings, application="test")
    lab = Lab(engine)
    one = lab.run(kind="odoo_db_backup", params='{"odoo_db": "nope"}', error='{"type": "UnknownDatabase"}')
    copies(lab, one, status="failed", kinds=["odoo_db_backup"])
    lab.finish(one)
    if analyzed:
        lab.sql("ANALYZE ops.runs")
    assert rows_read(lab, Rule.BACKUP, QUERIES[Rule.BACKUP]) <= 1000
    engine.dispose()


def copies(lab: Lab, run_id: UUID, *, status: str, kinds: list[str]) -> None:
    """10,000 runs of each kind that are like this one, and ended 40 days ago."""
    lab.sql(
        "INSERT INTO ops.runs (id, session_id, kind, lane, status, outcome, params, error, created_at, finished_at, "
        "updated_at, state_id, state_at) SELECT gen_random_uuid(), session_id, k, lane, :status, :status, params, "
        "error, now() - interval '40 days', now() - interval '40 days', now() - interval '40 days', gen_random_uuid(), "
        "state_at FROM ops.runs, generate_series(1, 10000), unnest(CAST(:kinds AS text[])) k WHERE id = :id",
        status=status,
        kinds=kinds,
        id=run_id,
    )


def rows_read(lab: Lab, name: str, query: str) -> float:
    """The most rows of `ops.runs` that a part of the query reads at once, whether it keeps them or not."""
    values = {"seconds": 0, "by_kind": "{}", "since": "2026-01-01Z", "kinds": ["odoo_db_backup"]}
    given = {key: value for key, value in values.items() if f":{key}" in query}
    plan = "\n".join(row[0] for row in lab.sql(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}", **given))
    assert "Seq Scan on runs" not in plan, f"{name}: {plan}"
    read = [float(rows) for rows in re.findall(r"Scan\b.* on runs.*\(actual rows=([\d.]+)", plan)]
    removed = [int(rows) for rows in re.findall(r"Rows Removed by Filter: (\d+)", plan)]
    print(f"{name}: {plan}")  # what a failure shows
    return max([*read, *removed], default=0)
