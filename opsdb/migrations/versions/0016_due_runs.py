"""A run's wait is counted from when it was due, what is planned for later is in no figure of today, and a mistyped name
is not a database. All tables have row-level security."""

from importlib import import_module

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BEFORE: str = import_module("opsdb.migrations.versions.0009_wait_of_postponed_runs").COUNT_RUN
SINCE: str = import_module("opsdb.migrations.versions.0009_wait_of_postponed_runs").SINCE
SINCE_DUE: str = import_module("opsdb.migrations.versions.0009_wait_of_postponed_runs").SINCE_DUE
BEGIN = "        seconds := greatest(0, extract(epoch FROM NEW.started_at - waiting_since));"
# of a run that was planned, created_at is when it was to start; of one that then was wanted sooner, it is ahead
BEGIN_DUE = f"""        waiting_since := coalesce(greatest(
            CASE WHEN waiting_since <= NEW.started_at THEN waiting_since END,
            CASE WHEN NEW.due_at <= NEW.started_at THEN NEW.due_at END), NEW.started_at);
{BEGIN}"""

VIEWS_BEFORE: dict[str, str] = import_module("opsdb.migrations.versions.0004_views").VIEWS
VIEWS = {
    "success_rate_24h": """
        SELECT round(100.0 * succeeded / nullif(succeeded + failed, 0), 2) AS success_rate, counted.*
        FROM (SELECT count(*) AS total_runs,
                     count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
                     count(*) FILTER (WHERE status = 'failed') AS failed,
                     count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
                     count(*) FILTER (WHERE finished_at IS NULL) AS unfinished
              FROM ops.runs WHERE created_at > statement_timestamp() - interval '24 hours'
                AND NOT (status = 'queued' AND coalesce(due_at, created_at) > statement_timestamp())) counted
    """,
    # A backup run succeeds only when its dump was verified. A database whose backups all failed is not fresh either;
    # what never had one and is not on the server, by its last failure, is a name that was mistyped, unless a schedule
    # or the night's run tried it.
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
                     max(finished_at) FILTER (WHERE status = 'failed') AS last_failed_at,
                     (array_agg(error ->> 'type' ORDER BY finished_at DESC) FILTER (WHERE status = 'failed'))[1]
                       AS last_error,
                     bool_or(CASE WHEN error ->> 'type' = 'UnknownDatabase' THEN tick IS NOT NULL OR EXISTS (
                               SELECT FROM ops.run_states st
                               WHERE st.run_id = r.id AND st.message LIKE 'started by run %')
                             END) AS unattended
              FROM ops.runs r
              WHERE kind = 'odoo_db_backup' AND params ->> 'odoo_db' > ''
                AND NOT (status = 'queued' AND coalesce(due_at, created_at) > statement_timestamp())
              GROUP BY 1) backups
        WHERE (last_verified_at IS NULL AND last_error = 'UnknownDatabase' AND unattended IS NOT TRUE) IS NOT TRUE
        ORDER BY database
    """,
    # one that is queued and not due yet is planned
    "runs_by_status_and_lane": """
        SELECT lane, status, count(r.lane) AS runs
        FROM unnest(enum_range(NULL::ops.lane_type)) AS lane
             CROSS JOIN unnest(ARRAY['planned', 'queued', 'claimed', 'running', 'succeeded', 'failed', 'cancelled'])
                        AS status
             LEFT JOIN (SELECT lane, CASE WHEN status = 'queued'
                                           AND coalesce(due_at, created_at) > statement_timestamp()
                                          THEN 'planned' ELSE status END AS status
                        FROM ops.runs) r USING (lane, status)
        GROUP BY lane, status ORDER BY lane, status
    """,
}


# what runs of earlier versions say of a name that is not on the server
NAMED_BEFORE = """
UPDATE ops.runs SET error = error || '{"type": "UnknownDatabase"}'
WHERE kind = 'odoo_db_backup' AND error ->> 'type' = 'Preflight' AND error ->> 'message' LIKE 'there is no database %'
"""

UNSECURED = ("deployed", "kinds", "lane_limits", "schedule_plans")
READERS: str = import_module("opsdb.migrations.versions.0001_first_tables").READERS


def upgrade() -> None:
    for table in UNSECURED:
        op.execute(f"ALTER TABLE ops.{table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY room ON ops.{table} TO ops_writer USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY readers ON ops.{table} FOR SELECT TO {READERS} USING (true)")
    op.execute(NAMED_BEFORE)
    op.execute(BEFORE.replace(SINCE, SINCE_DUE).replace(BEGIN, BEGIN_DUE))
    for name, query in VIEWS.items():
        op.execute(f"CREATE OR REPLACE VIEW ops.{name} WITH (security_invoker) AS {query}")


def downgrade() -> None:
    for table in UNSECURED:
        op.execute(f"DROP POLICY readers ON ops.{table}")
        op.execute(f"DROP POLICY room ON ops.{table}")
        op.execute(f"ALTER TABLE ops.{table} DISABLE ROW LEVEL SECURITY")
    op.execute(BEFORE.replace(SINCE, SINCE_DUE))
    for name in VIEWS:
        op.execute(f"CREATE OR REPLACE VIEW ops.{name} WITH (security_invoker) AS {VIEWS_BEFORE[name]}")
