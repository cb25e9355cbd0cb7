"""On how many nights each database had a fresh backup, and one home for which names are databases."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

READERS: str = import_module("opsdb.migrations.versions.0001_first_tables").READERS
FRESHNESS_BEFORE: str = import_module("opsdb.migrations.versions.0016_due_runs").VIEWS["backup_freshness"]

NAMES = """SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE kind = 'odoo_db_backup' AND status {status} AND params ->> 'odoo_db' > ''
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    UNION ALL
    SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE kind = 'odoo_db_backup' AND status {status} AND params ->> 'odoo_db' > {known}.name
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    FROM {known} WHERE {known}.name IS NOT NULL"""
GOOD = """FROM ops.runs
        WHERE kind = 'odoo_db_backup' AND status = 'succeeded' AND params ->> 'odoo_db' = names.name
        ORDER BY params ->> 'odoo_db'"""

# A database is what somebody tried to back up, but for a mistyped name: it never had a backup, its last failure
# says that the server has no such database, and neither a schedule nor the night's run tried it. Of the good runs the
# first and the last are looked up in their index, however many there are; all others of a database are read.
DATABASES = f"""
    WITH RECURSIVE good(name) AS (
    {NAMES.format(known="good", status="= 'succeeded'")}
    ), other(name) AS (
    {NAMES.format(known="other", status="<> 'succeeded'")}
    )
    SELECT names.name AS database,
           least(first_good.at, tried.first_at) AS first_tried_at,
           greatest(last_good.tried_at, tried.last_at) AS last_tried_at,
           tried.last_failed_at,
           last_good.at AS last_verified_at,
           last_good.size_bytes AS last_size_bytes
    FROM (SELECT name FROM good UNION SELECT name FROM other) names
      LEFT JOIN LATERAL (
        SELECT least(created_at, started_at) AS at {GOOD} DESC, finished_at LIMIT 1) first_good ON true
      LEFT JOIN LATERAL (
        SELECT coalesce(outcome_at, finished_at) AS at, greatest(created_at, started_at) AS tried_at,
               CASE WHEN jsonb_typeof(result -> 'size_bytes') = 'number'
                    THEN (result ->> 'size_bytes')::numeric::bigint END AS size_bytes
        {GOOD}, finished_at DESC LIMIT 1) last_good ON true
      LEFT JOIN LATERAL (
        SELECT min(least(created_at, started_at)) AS first_at,
               max(greatest(created_at, started_at)) AS last_at,  -- a retry is as old as its run
               max(finished_at) FILTER (WHERE status = 'failed') AS last_failed_at,
               (array_agg(error ->> 'type' ORDER BY finished_at DESC) FILTER (WHERE status = 'failed'))[1]
                 AS last_error,
               bool_or(CASE WHEN error ->> 'type' = 'UnknownDatabase' THEN tick IS NOT NULL OR EXISTS (
                         SELECT FROM ops.run_states st
                         WHERE st.run_id = r.id AND st.message LIKE 'started by run %')
                       END) AS unattended
        FROM ops.runs r
        WHERE kind = 'odoo_db_backup' AND status <> 'succeeded' AND params ->> 'odoo_db' = names.name
          AND NOT (status = 'queued' AND coalesce(due_at, created_at) > statement_timestamp())) tried ON true
    WHERE coalesce(last_good.at, tried.first_at) IS NOT NULL
      AND (last_good.at IS NULL AND tried.last_error = 'UnknownDatabase' AND tried.unattended IS NOT TRUE) IS NOT TRUE
    ORDER BY names.name
"""  # noqa: S608 - of texts of ours

FRESHNESS = """
    SELECT database, last_verified_at,
           round(extract(epoch FROM statement_timestamp() - last_verified_at)) AS age_seconds,
           coalesce(last_verified_at > statement_timestamp() - interval '26 hours', false) AS fresh,
           last_size_bytes, last_failed_at
    FROM ops.databases
    ORDER BY database
"""

# Judged at 06:00 UTC, by what had been verified then: of the last 30 such times those since the database was first
# tried. In steps of hours: where clocks are put back, a day has 25. OFFSET 0, or each night is looked up three times.
NIGHTS = """
    WITH nights AS MATERIALIZED (
      SELECT date_trunc('day', statement_timestamp() - interval '6 hours', 'UTC') + interval '6 hours'
             - number * interval '24 hours' AS at
      FROM generate_series(0, 29) number)
    SELECT d.database, judged.*
    FROM ops.databases d
         CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE fresh) AS fresh_nights, count(*) AS nights,
                  max(at) FILTER (WHERE NOT fresh) AS last_without_at
           FROM (SELECT night.at, EXISTS (
                          SELECT FROM ops.runs
                          WHERE kind = 'odoo_db_backup' AND status = 'succeeded' AND params ->> 'odoo_db' = d.database
                            -- Prefect may have heard of the end a day later
                            AND finished_at > night.at - interval '26 hours'
                            AND finished_at <= night.at + interval '24 hours'
                            AND coalesce(outcome_at, finished_at) > night.at - interval '26 hours'
                            AND coalesce(outcome_at, finished_at) <= night.at) AS fresh
                 FROM nights night WHERE night.at >= d.first_tried_at OFFSET 0) each_night) judged
    WHERE d.last_tried_at > statement_timestamp() - interval '31 days'
      AND NOT EXISTS (SELECT FROM ops.alert_episodes e WHERE e.rule = 'backup' AND e.subject = d.database
                      AND CAST(e.facts ->> 'forgotten_at' AS timestamptz) > d.last_tried_at)
    ORDER BY d.database
"""
NEW = {"databases": DATABASES, "backup_nights": NIGHTS}


def upgrade() -> None:
    op.create_index(
        "ix_runs_other_backups",
        "runs",
        [sa.text("(params ->> 'odoo_db')")],
        schema="ops",
        postgresql_where=sa.text("kind = 'odoo_db_backup' AND status <> 'succeeded'"),
    )
    for name, query in NEW.items():
        op.execute(f"CREATE VIEW ops.{name} WITH (security_invoker) AS {query}")
        op.execute(f"REVOKE ALL ON ops.{name} FROM PUBLIC, ops_writer")  # 0001's default privileges gave it more
        op.execute(f"GRANT SELECT ON ops.{name} TO ops_writer, {READERS}")  # the room itself reads them, too
    op.execute(f"CREATE OR REPLACE VIEW ops.backup_freshness WITH (security_invoker) AS {FRESHNESS}")


def downgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW ops.backup_freshness WITH (security_invoker) AS {FRESHNESS_BEFORE}")
    for name in reversed(NEW):
        op.execute(f"DROP VIEW ops.{name}")
    op.drop_index("ix_runs_other_backups", table_name="runs", schema="ops")
