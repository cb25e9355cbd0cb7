"""The first tables, the roles' rights on them, and the counts of sessions as a view."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("sessions", "runs", "run_states", "run_steps", "run_locks", "run_events", "artifacts", "sync_marks")
READERS = "ops_monitor, superset_ro"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("triggered_by", sa.Text(), server_default="manual", nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column(
            "context",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.CheckConstraint("status IN ('active', 'completed', 'cancelled')", name=op.f("ck_sessions_status")),
        sa.CheckConstraint(
            "triggered_by IN ('manual', 'schedule', 'github', 'api')", name=op.f("ck_sessions_triggered_by")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        schema="ops",
    )
    op.create_index("ix_sessions_name", "sessions", ["name"], unique=False, schema="ops")
    op.create_table(
        "sync_marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sync_marks")),
        schema="ops",
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lane", sa.Enum("A", "B", "C", "D", name="lane_type", schema="ops"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "params",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("max_attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("fenced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence_reason", sa.Text(), nullable=True),
        sa.Column("reaped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resource", sa.Text(), nullable=True),
        sa.Column("state_id", sa.UUID(), nullable=False),
        sa.Column("state_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('succeeded', 'failed')", name=op.f("ck_runs_outcome")),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled'))",
            name=op.f("ck_runs_finished"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'claimed', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_runs_status"),
        ),
        sa.ForeignKeyConstraint(["session_id"], ["ops.sessions.id"], name=op.f("fk_runs_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        schema="ops",
    )
    op.create_index("ix_runs_created_at", "runs", ["created_at"], unique=False, schema="ops")
    op.create_index("ix_runs_session_id", "runs", ["session_id"], unique=False, schema="ops")
    op.create_index("ix_runs_status_lane", "runs", ["status", "lane"], unique=False, schema="ops")
    op.create_index(
        "ix_runs_unfinished",
        "runs",
        ["lane", "status"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("storage_path", sa.Text(), nullable=True),
        sa.Column("content_text", sa.Text(), nullable=True),
        sa.Column("content_url", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("mime_type", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.CheckConstraint("kind IN ('file', 'link', 'text')", name=op.f("ck_artifacts_kind")),
        sa.CheckConstraint("octet_length(content_text) <= 1048576", name=op.f("ck_artifacts_content_text_size")),
        sa.ForeignKeyConstraint(["run_id"], ["ops.runs.id"], name=op.f("fk_artifacts_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        schema="ops",
    )
    op.create_index("ix_artifacts_run_id", "artifacts", ["run_id"], unique=False, schema="ops")
    op.create_table(
        "run_events",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("level", sa.Text(), server_default="info", nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column(
            "data",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.CheckConstraint("level IN ('debug', 'info', 'warning', 'error')", name=op.f("ck_run_events_level")),
        sa.ForeignKeyConstraint(["run_id"], ["ops.runs.id"], name=op.f("fk_run_events_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_events")),
        schema="ops",
    )
    op.create_index(
        "ix_run_events_run_id_created_at", "run_events", ["run_id", "created_at"], unique=False, schema="ops"
    )
    op.create_table(
        "run_states",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), server_default="prefect", nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("source IN ('prefect', 'room')", name=op.f("ck_run_states_source")),
        sa.ForeignKeyConstraint(["run_id"], ["ops.runs.id"], name=op.f("fk_run_states_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_states")),
        schema="ops",
    )
    op.create_index("ix_run_states_run_id_at", "run_states", ["run_id", "at"], unique=False, schema="ops")
    op.create_table(
        "run_steps",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("timeout_seconds", sa.Double(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('running', 'succeeded', 'failed', 'cancelled', 'interrupted')", name=op.f("ck_run_steps_status")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["ops.runs.id"], name=op.f("fk_run_steps_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "attempt", "index", name=op.f("pk_run_steps")),
        schema="ops",
    )
    op.create_table(
        "run_locks",
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "taken_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["run_id"], ["ops.runs.id"], name=op.f("fk_run_locks_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_run_locks")),
        schema="ops",
    )

    op.execute(
        """
        CREATE VIEW ops.session_progress WITH (security_invoker) AS
        SELECT s.id, s.name, s.status, s.triggered_by, s.created_at,
               count(r.id) AS runs,
               count(r.id) FILTER (WHERE r.finished_at IS NULL) AS unfinished,
               count(r.id) FILTER (WHERE r.status = 'succeeded') AS succeeded,
               count(r.id) FILTER (WHERE r.status = 'failed') AS failed,
               count(r.id) FILTER (WHERE r.status = 'cancelled') AS cancelled
        FROM ops.sessions s LEFT JOIN ops.runs r ON r.session_id = s.id
        GROUP BY s.id
        """
    )
    _grant()


def _grant() -> None:
    op.execute(f"GRANT USAGE ON SCHEMA ops TO ops_writer, {READERS}")
    # tables of later migrations get the same rights; their row-level security is those migrations' own to enable
    op.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE ops_owner IN SCHEMA ops "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ops_writer"
    )
    op.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE ops_owner IN SCHEMA ops GRANT SELECT ON TABLES TO {READERS}")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ops TO ops_writer")
    op.execute("REVOKE ALL ON ops.alembic_version FROM ops_writer")
    op.execute("GRANT SELECT ON ops.alembic_version TO ops_writer")
    op.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA ops TO {READERS}")
    for table in TABLES:
        op.execute(f"ALTER TABLE ops.{table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY room ON ops.{table} TO ops_writer USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY readers ON ops.{table} FOR SELECT TO {READERS} USING (true)")


def downgrade() -> None:
    op.execute("DROP VIEW ops.session_progress")

    op.drop_table("run_locks", schema="ops")
    op.drop_table("run_steps", schema="ops")
    op.drop_index("ix_run_states_run_id_at", table_name="run_states", schema="ops")
    op.drop_table("run_states", schema="ops")
    op.drop_index("ix_run_events_run_id_created_at", table_name="run_events", schema="ops")
    op.drop_table("run_events", schema="ops")
    op.drop_index("ix_artifacts_run_id", table_name="artifacts", schema="ops")
    op.drop_table("artifacts", schema="ops")
    op.drop_index(
        "ix_runs_unfinished", table_name="runs", schema="ops", postgresql_where=sa.text("finished_at IS NULL")
    )
    op.drop_index("ix_runs_status_lane", table_name="runs", schema="ops")
    op.drop_index("ix_runs_session_id", table_name="runs", schema="ops")
    op.drop_index("ix_runs_created_at", table_name="runs", schema="ops")
    op.drop_table("runs", schema="ops")
    op.drop_table("sync_marks", schema="ops")
    op.drop_index("ix_sessions_name", table_name="sessions", schema="ops")
    op.drop_table("sessions", schema="ops")
    op.execute("DROP TYPE ops.lane_type")
