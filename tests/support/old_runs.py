"""Many runs that ended long ago, in the record and in Prefect's database, made by a few statements."""

from __future__ import annotations

from uuid import UUID

import psycopg
from sqlalchemy import make_url

from opsdb.settings import Settings

_RECORDED = """
WITH session AS (
    INSERT INTO ops.sessions (id, name, status, updated_at)
    VALUES (gen_random_uuid(), 'long ago', 'completed', now() - %(days)s * interval '1 day') RETURNING id
), made AS (
    INSERT INTO ops.runs (id, session_id, kind, name, lane, status, outcome, params, resource, created_at, started_at,
                          finished_at, outcome_at, state_id, state_at)
    SELECT gen_random_uuid(), session.id, %(kind)s, 'long ago', 'A', %(status)s,
           CASE WHEN %(status)s = 'succeeded' THEN 'succeeded' WHEN %(status)s = 'failed' THEN 'failed' END,
           jsonb_build_object('odoo_db', %(database)s::text), %(resource)s, at - interval '1 minute',
           at - interval '1 minute', CASE WHEN %(status)s <> 'running' THEN at END,
           CASE WHEN %(status)s <> 'running' THEN at END, gen_random_uuid(), at
    FROM session, (SELECT now() - %(days)s * interval '1 day' + number * interval '1 millisecond' AS at
                   FROM generate_series(1, %(count)s) number) times
    RETURNING id, state_id, state_at
), states AS (
    INSERT INTO ops.run_states (id, run_id, at, type, name)
    SELECT CASE WHEN number = 1 THEN state_id ELSE gen_random_uuid() END, id,
           state_at - (number - 1) * interval '1 second', 'COMPLETED', 'Completed'
    FROM made, generate_series(1, 3) number
), steps AS (
    INSERT INTO ops.run_steps (run_id, attempt, index, name, status, command, timeout_seconds, started_at, finished_at)
    SELECT id, 1, number, 'step', 'succeeded', 'true', 60, state_at, state_at FROM made, generate_series(1, 3) number
), events AS (
    INSERT INTO ops.run_events (id, run_id, created_at, message)
    SELECT gen_random_uuid(), id, state_at, repeat('it happened ', 5) FROM made, generate_series(1, 4) number
), artifacts AS (
    INSERT INTO ops.artifacts (id, run_id, created_at, kind, name)
    SELECT gen_random_uuid(), id, state_at, 'text', 'note' FROM made
), results AS (
    INSERT INTO ops.step_results (run_id, attempt, index, result)
    SELECT id, 1, 1, '{"value": 1}' FROM made WHERE %(status)s IN ('failed', 'cancelled')
)
SELECT id, state_at FROM made ORDER BY state_at
"""
_IN_PREFECT = """
WITH flow AS (
    INSERT INTO flow (name) VALUES (%(kind)s) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id
), runs AS (
    INSERT INTO flow_run (id, name, flow_id, state_type, state_name, end_time, tags)
    SELECT run.id, 'long ago', flow.id, %(type)s::state_type, 'Done', run.at, '["runbook"]'
    FROM flow, unnest(%(ids)s::uuid[], %(ends)s::timestamptz[]) run(id, at) RETURNING id, end_time
), states AS (
    INSERT INTO flow_run_state (flow_run_id, type, name, timestamp)
    SELECT id, %(type)s::state_type, 'Done', coalesce(end_time, now()) - number * interval '1 second'
    FROM runs, generate_series(1, 3) number
), logs AS (
    INSERT INTO log (name, level, message, timestamp, flow_run_id)
    SELECT 'prefect', 20, 'it goes on', coalesce(end_time, now()), id FROM runs, generate_series(1, 5)
)
INSERT INTO artifact (flow_run_id, created) SELECT id, coalesce(end_time, now()) FROM runs
"""


def prefect_url(settings: Settings) -> str:
    """Prefect's database of a room, as libpq spells it."""
    url = make_url(settings.ops_url).set(database=settings.prefect_database)
    return url.render_as_string(hide_password=False)


def make_old_runs(
    settings: Settings,
    *,
    days: float,
    count: int = 1,
    kind: str = "host_check",
    status: str = "succeeded",
    database: str | None = None,
    resource: str | None = None,
    recorded: bool = True,
    in_prefect: bool = True,
) -> list[UUID]:
    """Make runs that ended so many days ago, as the room and Prefect have them. Returns their ids, oldest first."""
    values = {"days": days, "count": count, "kind": kind, "status": status}
    values |= {"database": database, "resource": resource}
    with psycopg.connect(settings.ops_url) as db:
        rows = db.execute(_RECORDED, values).fetchall()
        if not recorded:
            db.rollback()
    if in_prefect:
        types = {"succeeded": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED", "running": "RUNNING"}
        over = status != "running"
        ends = [at if over else None for _, at in rows]
        given = {"kind": kind, "type": types[status], "ids": [run_id for run_id, _ in rows], "ends": ends}
        with psycopg.connect(prefect_url(settings)) as db:
            db.execute(_IN_PREFECT, given)
    return [run_id for run_id, _ in rows]
