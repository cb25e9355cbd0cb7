"""What runs are called, and by which pattern the runs of a kind are."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STUCK_RUNS = """
    SELECT r.id, r.kind, r.lane, r.status, r.claimed_by, r.session_id, r.heartbeat_at,
           round(extract(epoch FROM statement_timestamp() - r.heartbeat_at), 1) AS seconds_since_heartbeat,
           r.fenced_at{name}
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
"""


def upgrade() -> None:
    op.add_column("runs", sa.Column("name", sa.Text()), schema="ops")
    op.create_index("ix_runs_name", "runs", ["name"], schema="ops")
    op.create_table(
        "kinds",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column(
            "defaults",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_kinds")),
        schema="ops",
    )
    op.execute(f"CREATE OR REPLACE VIEW ops.stuck_runs WITH (security_invoker) AS {STUCK_RUNS.format(name=', r.name')}")


def downgrade() -> None:
    op.execute("DROP VIEW ops.stuck_runs")
    op.execute(f"CREATE VIEW ops.stuck_runs WITH (security_invoker) AS {STUCK_RUNS.format(name='')}")
    op.execute("REVOKE ALL ON ops.stuck_runs FROM PUBLIC, ops_writer")
    op.execute("GRANT SELECT ON ops.stuck_runs TO ops_monitor, superset_ro")
    op.drop_table("kinds", schema="ops")
    op.drop_index("ix_runs_name", table_name="runs", schema="ops")
    op.drop_column("runs", "name", schema="ops")
