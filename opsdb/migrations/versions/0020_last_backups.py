"""What is known of a database is looked up in indexes, however many of its backups failed.

`ops.databases` read every backup that ever failed, each time that the alerts were looked at: 2 s of 100,000 of them.
"""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_0019 = import_module("opsdb.migrations.versions.0019_proven_backups")
GOOD: str = _0019.GOOD
OTHER: str = _0019.OTHER
NAMES: str = _0019.NAMES
FAILED = "kind = 'odoo_db_backup' AND status = 'failed'"
FIRST = "LEAST(created_at, started_at)"  # of a run that was planned, and then wanted sooner, created_at is ahead
LAST = "GREATEST(created_at, started_at)"  # a retry is as old as its run

# Each order is an index's to the letter, or PostgreSQL would sort all runs of a database to find one.
OF_NAME = """FROM ops.runs r
        WHERE {those} AND params ->> 'odoo_db' = names.name
        ORDER BY params ->> 'odoo_db'"""
TRIED = """FROM ops.runs
        WHERE {those} AND params ->> 'odoo_db' = names.name
          AND NOT (status = 'queued' AND coalesce(due_at, created_at) > statement_timestamp())
        ORDER BY params ->> 'odoo_db'"""

# As in 0019. Whether anybody but a person tried a name that the server does not know is asked of a thousand tries: a
# night is among them, even where a person's crontab has the same name wrong every five minutes.
DATABASES = f"""
    WITH RECURSIVE good(name) AS (
    {NAMES.format(known="good", those=GOOD)}
    ), other(name) AS (
    {NAMES.format(known="other", those=OTHER)}
    )
    SELECT names.name AS database,
           least(first_good.at, first_other.at) AS first_tried_at,
           greatest(last_good.tried_at, last_other.at) AS last_tried_at,
           last_failed.finished_at AS last_failed_at,
           last_good.at AS last_verified_at,
           last_good.size_bytes AS last_size_bytes,
           CASE WHEN (last_good.finished_at > last_failed.finished_at) IS NOT TRUE
                THEN left(coalesce(nullif(last_failed.error ->> 'message', ''), last_failed.error ->> 'type'), 500)
           END AS last_error,
           greatest(last_good.tried_at, last_other.at) > statement_timestamp() - interval '31 days'
             AND NOT EXISTS (
               SELECT FROM ops.alert_episodes e WHERE e.rule = 'backup' AND e.subject = names.name
               AND CAST(e.facts ->> 'forgotten_at' AS timestamptz) > greatest(last_good.tried_at, last_other.at)
             ) AS watched
    FROM (SELECT name FROM good UNION SELECT name FROM other) names
      LEFT JOIN LATERAL (
        SELECT {FIRST} AS at {OF_NAME.format(those=GOOD)} DESC, finished_at LIMIT 1) first_good ON true
      LEFT JOIN LATERAL (
        SELECT finished_at, coalesce(outcome_at, finished_at) AS at, {LAST} AS tried_at,
               CASE WHEN jsonb_typeof(result -> 'size_bytes') = 'number'
                    THEN (result ->> 'size_bytes')::numeric::bigint END AS size_bytes
        {OF_NAME.format(those=GOOD)}, finished_at DESC LIMIT 1) last_good ON true
      LEFT JOIN LATERAL (
        SELECT {FIRST} AS at {TRIED.format(those=OTHER)}, {FIRST} LIMIT 1) first_other ON true
      LEFT JOIN LATERAL (
        SELECT {LAST} AS at {TRIED.format(those=OTHER)}, {LAST} DESC LIMIT 1) last_other ON true
      LEFT JOIN LATERAL (
        SELECT finished_at, error {OF_NAME.format(those=FAILED)}, finished_at DESC LIMIT 1) last_failed ON true
    WHERE coalesce(last_good.at, first_other.at) IS NOT NULL
      AND CASE WHEN last_good.at IS NULL AND last_failed.error ->> 'type' = 'UnknownDatabase'
               THEN EXISTS (
                 SELECT FROM (
                   SELECT r.id, r.tick, r.error {OF_NAME.format(those=FAILED)}, finished_at DESC LIMIT 1000) tries
                 WHERE error ->> 'type' = 'UnknownDatabase' AND (tick IS NOT NULL OR EXISTS (
                   SELECT FROM ops.run_states st
                   WHERE st.run_id = tries.id AND st.message LIKE 'started by run %')))
               ELSE true END
    ORDER BY names.name
"""  # noqa: S608 - of texts of ours


def upgrade() -> None:
    op.drop_index("ix_runs_other_backups", table_name="runs", schema="ops")
    for index, second, those in (
        ("ix_runs_first_tries", FIRST, OTHER),
        ("ix_runs_last_tries", f"{LAST} DESC", OTHER),
        ("ix_runs_failed_backups", "finished_at DESC", FAILED),
    ):
        keys = [sa.text("(params ->> 'odoo_db')"), sa.text(second)]
        op.create_index(index, "runs", keys, schema="ops", postgresql_where=sa.text(those))
    op.execute(f"CREATE OR REPLACE VIEW ops.databases WITH (security_invoker) AS {DATABASES}")


def downgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW ops.databases WITH (security_invoker) AS {_0019.DATABASES}")
    for index in ("ix_runs_first_tries", "ix_runs_last_tries", "ix_runs_failed_backups"):
        op.drop_index(index, table_name="runs", schema="ops")
    op.create_index(
        "ix_runs_other_backups",
        "runs",
        [sa.text("(params ->> 'odoo_db')")],
        schema="ops",
        postgresql_where=sa.text(OTHER),
    )
