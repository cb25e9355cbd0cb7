"""Before when nobody starts a run, and what Prefect says of lanes and schedules, so that reasons are the reason."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("runs", "run_states"):
        op.add_column(table, sa.Column("due_at", sa.DateTime(timezone=True)), schema="ops")
    op.create_table(
        "lane_limits",
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer()),
        _updated_at(),
        sa.PrimaryKeyConstraint("lane", name=op.f("pk_lane_limits")),
        schema="ops",
    )
    op.create_table(
        "schedule_plans",
        sa.Column("id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True)),
        sa.Column("fault", sa.Text()),
        sa.Column("unplanned_since", sa.DateTime(timezone=True)),
        _updated_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_plans")),
        schema="ops",
    )


def downgrade() -> None:
    op.drop_table("schedule_plans", schema="ops")
    op.drop_table("lane_limits", schema="ops")
    for table in ("run_states", "runs"):
        op.drop_column(table, "due_at", schema="ops")


def _updated_at() -> sa.Column[object]:
    return sa.Column(
        "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
    )
