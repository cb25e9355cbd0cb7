"""What the room adds to Prefect's schedules: catch-up rules, blackouts, and overrides of those."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

READERS = "ops_monitor, superset_ro"
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "schedule_rules",
        sa.Column("schedule_id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=True),
        sa.Column("blackouts", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("schedule_id", "source", name=op.f("pk_schedule_rules")),
        sa.CheckConstraint("source IN ('declared', 'person')", name=op.f("ck_schedule_rules_source")),
        sa.CheckConstraint(
            "catch_up ~ '^(skip|all|once within [0-9]+[mhd])$'", name=op.f("ck_schedule_rules_catch_up")
        ),
        schema="ops",
    )
    op.create_table(
        "schedule_overrides",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("schedule_id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_overrides")),
        sa.CheckConstraint("ends_at >= starts_at", name=op.f("ck_schedule_overrides_ends")),
        sa.CheckConstraint("btrim(reason) <> ''", name=op.f("ck_schedule_overrides_reason")),
        schema="ops",
    )
    op.create_index("ix_schedule_overrides_schedule_id", "schedule_overrides", ["schedule_id", "ends_at"], schema="ops")
    for table in ("schedule_rules", "schedule_overrides"):
        op.execute(f"ALTER TABLE ops.{table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY room ON ops.{table} TO ops_writer USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY readers ON ops.{table} FOR SELECT TO {READERS} USING (true)")


def downgrade() -> None:
    op.drop_table("schedule_overrides", schema="ops")
    op.drop_table("schedule_rules", schema="ops")
