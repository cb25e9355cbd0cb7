"""Alerts: episodes, incidents, the outbox."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = (
    "alert_incidents",
    "alert_episodes",
    "alert_messages",
    "alert_deliveries",
    "alert_silences",
    "alert_totals",
)
READERS = "ops_monitor, superset_ro"


def _time(name: str, *, default_now: bool = False, null: bool = True) -> sa.Column[Any]:
    default = sa.text("clock_timestamp()") if default_now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=null)


def _number() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False)


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def upgrade() -> None:
    _create_incidents()
    _create_outbox()
    op.create_index(
        "ix_run_events_errors",
        "run_events",
        ["created_at"],
        schema="ops",
        postgresql_where=sa.text("level = 'error'"),
    )
    op.create_index(
        "ix_runs_backups",
        "runs",
        ["created_at"],
        schema="ops",
        postgresql_where=sa.text("kind = 'odoo_db_backup'"),
    )
    for table in TABLES:
        op.execute(f"ALTER TABLE ops.{table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY room ON ops.{table} TO ops_writer USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY readers ON ops.{table} FOR SELECT TO {READERS} USING (true)")


def _create_incidents() -> None:
    op.create_table(
        "alert_incidents",
        _number(),
        _text("rule"),
        _text("lane"),
        _time("opened_at", null=False),
        _time("told_at"),
        _time("resolved_at"),
        _time("closed_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_incidents")),
        schema="ops",
    )
    op.create_index(
        "uq_alert_incidents_unclosed",
        "alert_incidents",
        ["rule", "lane"],
        unique=True,
        schema="ops",
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("ix_alert_incidents_closed_at", "alert_incidents", ["closed_at"], schema="ops")
    op.create_table(
        "alert_episodes",
        _number(),
        sa.Column("incident_id", sa.BigInteger(), nullable=True),
        _text("rule"),
        _text("lane"),
        _text("subject"),
        _text("kind", null=True),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column(
            "facts",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        _time("opened_at", default_now=True, null=False),
        _time("told_at"),
        _time("resolved_at"),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["ops.alert_incidents.id"], name=op.f("fk_alert_episodes_incident_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_episodes")),
        schema="ops",
    )
    op.create_index(
        "uq_alert_episodes_open",
        "alert_episodes",
        ["rule", "subject"],
        unique=True,
        schema="ops",
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index(
        "ix_alert_episodes_ungrouped",
        "alert_episodes",
        ["rule", "lane"],
        schema="ops",
        postgresql_where=sa.text("incident_id IS NULL"),
    )
    op.create_index("ix_alert_episodes_incident_id", "alert_episodes", ["incident_id"], schema="ops")
    op.create_index("ix_alert_episodes_subject", "alert_episodes", ["rule", "subject"], schema="ops")


def _create_outbox() -> None:
    op.create_table(
        "alert_messages",
        _number(),
        sa.Column("incident_id", sa.BigInteger(), nullable=False),
        _text("event"),
        _text("body"),
        _time("created_at", default_now=True, null=False),
        sa.CheckConstraint("event IN ('firing', 'repeat', 'resolved')", name=op.f("ck_alert_messages_event")),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["ops.alert_incidents.id"], name=op.f("fk_alert_messages_incident_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_messages")),
        schema="ops",
    )
    op.create_index("ix_alert_messages_incident_id", "alert_messages", ["incident_id"], schema="ops")
    op.create_table(
        "alert_deliveries",
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        _text("destination"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _time("next_attempt_at", default_now=True, null=False),
        _time("leased_until"),
        _time("delivered_at"),
        _time("dead_at"),
        _text("reason", null=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("retry_after_seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["ops.alert_messages.id"], name=op.f("fk_alert_deliveries_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message_id", "destination", name=op.f("pk_alert_deliveries")),
        schema="ops",
    )
    op.create_index(
        "ix_alert_deliveries_pending",
        "alert_deliveries",
        ["destination", "message_id"],
        schema="ops",
        postgresql_where=sa.text("delivered_at IS NULL AND dead_at IS NULL"),
    )
    op.create_index(
        "ix_alert_deliveries_dead",
        "alert_deliveries",
        ["dead_at"],
        schema="ops",
        postgresql_where=sa.text("dead_at IS NOT NULL"),
    )
    op.create_table(
        "alert_silences",
        _text("rule"),
        _time("until_at", null=False),
        _time("made_at", default_now=True, null=False),
        sa.PrimaryKeyConstraint("rule", name=op.f("pk_alert_silences")),
        schema="ops",
    )
    op.create_table(
        "alert_totals",
        _text("outcome"),
        sa.Column("count", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("outcome", name=op.f("pk_alert_totals")),
        schema="ops",
    )


def downgrade() -> None:
    op.drop_index("ix_runs_backups", table_name="runs", schema="ops")
    op.drop_index("ix_run_events_errors", table_name="run_events", schema="ops")
    for table in reversed(TABLES):
        op.drop_table(table, schema="ops")
