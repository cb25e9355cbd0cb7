"""10,000 subjects at once, on tables of which the server has no statistics yet."""

from __future__ import annotations

from opsdb.database import connect
from opsdb.settings import Settings
from tests.support.alerts_lab import Lab


def test_10000_late_runs_are_one_message_and_one_end(settings: Settings) -> None:
    engine = connect(settings, application="test", statement_seconds=10)
    lab = Lab(engine)
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
