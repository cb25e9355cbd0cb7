"""Views for Superset and whoever else reads: one row per answer, correct on an empty database too.

They are read with the reader's own rights (`security_invoker`), by ops_monitor and superset_ro and nobody else.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

READERS = "ops_monitor, superset_ro"

VIEWS = {
    # of the runs that ended by themselves: a cancelled one says nothing of its runbook, an unfinished one nothing yet
    "success_rate_24h": """
        SELECT round(100.0 * succeeded / nullif(succeeded + failed, 0), 2) AS success_rate, counted.*
        FROM (SELECT count(*) AS total_runs,
                     count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
                     count(*) FILTER (WHERE status = 'failed') AS failed,
                     count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
                     count(*) FILTER (WHERE finished_at IS NULL) AS unfinished
              FROM ops.runs WHERE created_at > statement_timestamp() - interval '24 hours') counted
    """,
    "avg_duration_by_kind_7d": """
        SELECT kind,
               round(avg(seconds), 3) AS avg_duration_seconds,
               round(percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds)::numeric, 3) AS p95_duration_seconds,
               count(*) AS run_count
        FROM (SELECT kind, extract(epoch FROM finished_at - started_at) AS seconds FROM ops.runs
              WHERE status = 'succeeded' AND started_at IS NOT NULL
                AND created_at > statement_timestamp() - interval '7 days') ended
        GROUP BY kind ORDER BY avg_duration_seconds DESC
    """,
    # The rule of opsdb/runs/sweeper.py with its default limits. A run that is being ended is in it until it is over.
    "stuck_runs": """
        SELECT r.id, r.kind, r.lane, r.status, r.claimed_by, r.session_id, r.heartbeat_at,
               round(extract(epoch FROM statement_timestamp() - r.heartbeat_at), 1) AS seconds_since_heartbeat,
               r.fenced_at
        FROM ops.runs r JOIN ops.run_states s ON s.id = r.state_id
             LEFT JOIN ops.sync_marks sweep ON sweep.name = 'sweep'
             LEFT JOIN ops.sync_marks prefect ON prefect.name = 'prefect'
        WHERE r.finished_at IS NULL AND r.outcome IS NULL AND s.type <> 'CANCELLING'
          AND (r.status = 'running'
               AND coalesce(greatest(r.heartbeat_at, sweep.at), r.updated_at)
                   < statement_timestamp() - interval '30 seconds'
               OR r.status = 'claimed'
               AND prefect.updated_at > statement_timestamp() - interval '15 seconds'
               AND greatest(r.heartbeat_at, sweep.at, prefect.at) < statement_timestamp() - interval '60 seconds')
    """,
    "runs_by_status_and_lane": """
        SELECT lane, status, count(r.id) AS runs
        FROM unnest(enum_range(NULL::ops.lane_type)) AS lane
             CROSS JOIN unnest(ARRAY['queued', 'claimed', 'running', 'succeeded', 'failed', 'cancelled']) AS status
             LEFT JOIN ops.runs r USING (lane, status)
        GROUP BY lane, status ORDER BY lane, status
    """,
    "hourly_error_rate_7d": """
        SELECT hour,
               count(r.id) AS ended,
               count(r.id) FILTER (WHERE r.status = 'failed') AS failed,
               round(100.0 * count(r.id) FILTER (WHERE r.status = 'failed')
                     / nullif(count(r.id) FILTER (WHERE r.status <> 'cancelled'), 0), 2) AS error_rate
        FROM generate_series(date_trunc('hour', statement_timestamp(), 'UTC') - interval '167 hours',
                             date_trunc('hour', statement_timestamp(), 'UTC'), interval '1 hour') AS hour
             LEFT JOIN ops.runs r ON date_trunc('hour', r.finished_at, 'UTC') = hour
                  AND r.finished_at >= date_trunc('hour', statement_timestamp(), 'UTC') - interval '167 hours'
        GROUP BY hour ORDER BY hour
    """,
    # A backup run succeeds only when its dump was verified. A database whose backups all failed is not fresh either.
    "backup_freshness": """
        SELECT database, last_verified_at,
               round(extract(epoch FROM statement_timestamp() - last_verified_at)) AS age_seconds,
               coalesce(last_verified_at > statement_timestamp() - interval '26 hours', false) AS fresh,
               last_size_bytes, last_failed_at
        FROM (SELECT params ->> 'odoo_db' AS database,
                     max(finished_at) FILTER (WHERE status = 'succeeded') AS last_verified_at,
                     (array_agg(CASE WHEN jsonb_typeof(result -> 'size_bytes') = 'number'
                                     THEN (result ->> 'size_bytes')::numeric::bigint END ORDER BY finished_at DESC)
                      FILTER (WHERE status = 'succeeded'))[1] AS last_size_bytes,
                     max(finished_at) FILTER (WHERE status = 'failed') AS last_failed_at
              FROM ops.runs WHERE kind = 'odoo_db_backup' AND params ->> 'odoo_db' > '' GROUP BY 1) backups
        ORDER BY database
    """,
}


def upgrade() -> None:
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW ops.{name} WITH (security_invoker) AS {query}")
        op.execute(f"REVOKE ALL ON ops.{name} FROM PUBLIC, ops_writer")  # 0001's default privileges gave it more
        op.execute(f"GRANT SELECT ON ops.{name} TO {READERS}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW ops.{name}")
