"""A backup counts when its own process said that it succeeded, and durations count when a run ended."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_0018 = import_module("opsdb.migrations.versions.0018_backup_nights")
DURATIONS_BEFORE: str = import_module("opsdb.migrations.versions.0004_views").VIEWS["avg_duration_by_kind_7d"]
GOOD_BEFORE = "kind = 'odoo_db_backup' AND status = 'succeeded'"
OTHER_BEFORE = "kind = 'odoo_db_backup' AND status <> 'succeeded'"

# A run that failed and that somebody sets to Completed in Prefect is called succeeded; its outcome stays what it was.
SUCCEEDED = "status = 'succeeded' AND outcome = 'succeeded'"
GOOD = f"kind = 'odoo_db_backup' AND {SUCCEEDED}"
OTHER = f"kind = 'odoo_db_backup' AND ({SUCCEEDED}) IS NOT TRUE"

NAMES = """SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE {those} AND params ->> 'odoo_db' > ''
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    UNION ALL
    SELECT (SELECT params ->> 'odoo_db' FROM ops.runs
            WHERE {those} AND params ->> 'odoo_db' > {known}.name
            ORDER BY params ->> 'odoo_db' LIMIT 1)
    FROM {known} WHERE {known}.name IS NOT NULL"""
OF_NAME = f"""FROM ops.runs
        WHERE {GOOD} AND params ->> 'odoo_db' = names.name
        ORDER BY params ->> 'odoo_db'"""

# As in 0018, but for what is good. Also why it was not backed up last, and whether anybody means it to be.
DATABASES = f"""
    WITH RECURSIVE good(name) AS (
    {NAMES.format(known="good", those=GOOD)}
    ), other(name) AS (
    {NAMES.format(known="other", those=OTHER)}
    )
    SELECT names.name AS database,
           least(first_good.at, tried.first_at) AS first_tried_at,
           greatest(last_good.tried_at, tried.last_at) AS last_tried_at,
           tried.last_failed_at,
           last_good.at AS last_verified_at,
           last_good.size_bytes AS last_size_bytes,
           left(coalesce(nullif(tried.last_error ->> 'message', ''), tried.last_error ->> 'type'), 500) AS last_error,
           greatest(last_good.tried_at, tried.last_at) > statement_timestamp() - interval '31 days'
             AND NOT EXISTS (
               SELECT FROM ops.alert_episodes e WHERE e.rule = 'backup' AND e.subject = names.name
               AND CAST(e.facts ->> 'forgotten_at' AS timestamptz) > greatest(last_good.tried_at, tried.last_at)
             ) AS watched
    FROM (SELECT name FROM good UNION SELECT name FROM other) names
      LEFT JOIN LATERAL (
        SELECT least(created_at, started_at) AS at {OF_NAME} DESC, finished_at LIMIT 1) first_good ON true
      LEFT JOIN LATERAL (
        SELECT coalesce(outcome_at, finished_at) AS at, greatest(created_at, started_at) AS tried_at,
               CASE WHEN jsonb_typeof(result -> 'size_bytes') = 'number'
                    THEN (result ->> 'size_bytes')::numeric::bigint END AS size_bytes
        {OF_NAME}, finished_at DESC LIMIT 1) last_good ON true
      LEFT JOIN LATERAL (
        SELECT min(least(created_at, started_at)) AS first_at,
               max(greatest(created_at, started_at)) AS last_at,  -- a retry is as old as its run
               max(finished_at) FILTER (WHERE status = 'failed') AS last_failed_at,
               (array_agg(error ORDER BY finished_at DESC) FILTER (WHERE status = 'failed'))[1] AS last_error,
               bool_or(CASE WHEN error ->> 'type' = 'UnknownDatabase' THEN tick IS NOT NULL OR EXISTS (
                         SELECT FROM ops.run_states st
                         WHERE st.run_id = r.id AND st.message LIKE 'started by run %')
                       END) AS unattended
        FROM ops.runs r
        WHERE {OTHER} AND params ->> 'odoo_db' = names.name
          AND NOT (status = 'queued' AND coalesce(due_at, created_at) > statement_timestamp())) tried ON true
    WHERE coalesce(last_good.at, tried.first_at) IS NOT NULL
      AND (last_good.at IS NULL AND tried.last_error ->> 'type' = 'UnknownDatabase'
           AND tried.unattended IS NOT TRUE) IS NOT TRUE
    ORDER BY names.name
"""  # noqa: S608 - of texts of ours

NIGHTS = f"""
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
                          WHERE {GOOD} AND params ->> 'odoo_db' = d.database
                            -- Prefect may have heard of the end a day later
                            AND finished_at > night.at - interval '26 hours'
                            AND finished_at <= night.at + interval '24 hours'
                            AND coalesce(outcome_at, finished_at) > night.at - interval '26 hours'
                            AND coalesce(outcome_at, finished_at) <= night.at) AS fresh
                 FROM nights night WHERE night.at >= d.first_tried_at OFFSET 0) each_night) judged
    WHERE d.watched
    ORDER BY d.database
"""  # noqa: S608 - of texts of ours

DURATIONS = """
    SELECT kind,
           round(avg(seconds), 3) AS avg_duration_seconds,
           round(percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds)::numeric, 3) AS p95_duration_seconds,
           count(*) AS run_count
    FROM (SELECT kind, extract(epoch FROM finished_at - started_at) AS seconds FROM ops.runs
          WHERE status = 'succeeded' AND started_at IS NOT NULL
            AND finished_at > statement_timestamp() - interval '7 days') ended
    GROUP BY kind ORDER BY avg_duration_seconds DESC
"""


def upgrade() -> None:
    op.drop_index("ix_runs_backups", table_name="runs", schema="ops")  # the alerts read ops.databases now
    _index_backups_again(good=GOOD, other=OTHER)
    op.create_index(
        "ix_runs_finished_at",
        "runs",
        ["finished_at"],
        schema="ops",
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    _replace({"databases": DATABASES, "backup_nights": NIGHTS, "avg_duration_by_kind_7d": DURATIONS})


def downgrade() -> None:
    _replace({"avg_duration_by_kind_7d": DURATIONS_BEFORE})
    # a column of a view goes only with the view, and with those that read it
    op.execute("DROP VIEW ops.backup_nights, ops.backup_freshness, ops.databases")
    for name, query, room in (
        ("databases", _0018.DATABASES, "ops_writer, "),
        ("backup_freshness", _0018.FRESHNESS, ""),
        ("backup_nights", _0018.NIGHTS, "ops_writer, "),
    ):
        op.execute(f"CREATE VIEW ops.{name} WITH (security_invoker) AS {query}")
        op.execute(f"REVOKE ALL ON ops.{name} FROM PUBLIC, ops_writer")
        op.execute(f"GRANT SELECT ON ops.{name} TO {room}{_0018.READERS}")
    op.drop_index("ix_runs_finished_at", table_name="runs", schema="ops")
    _index_backups_again(good=GOOD_BEFORE, other=OTHER_BEFORE)
    op.create_index(
        "ix_runs_backups",
        "runs",
        ["created_at"],
        schema="ops",
        postgresql_where=sa.text("kind = 'odoo_db_backup'"),
    )


def _index_backups_again(*, good: str, other: str) -> None:
    for index in ("ix_runs_last_backup", "ix_runs_other_backups"):
        op.drop_index(index, table_name="runs", schema="ops")
    name, last = sa.text("(params ->> 'odoo_db')"), sa.text("finished_at DESC")
    op.create_index("ix_runs_last_backup", "runs", [name, last], schema="ops", postgresql_where=sa.text(good))
    op.create_index("ix_runs_other_backups", "runs", [name], schema="ops", postgresql_where=sa.text(other))


def _replace(views: dict[str, str]) -> None:
    for name, query in views.items():
        op.execute(f"CREATE OR REPLACE VIEW ops.{name} WITH (security_invoker) AS {query}")
