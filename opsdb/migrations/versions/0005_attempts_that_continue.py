"""What an attempt needs that goes on where another ended: what steps gave back, and of which runbook they are."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BEFORE = "'running', 'succeeded', 'failed', 'cancelled', 'interrupted'"


def upgrade() -> None:
    op.add_column("runs", sa.Column("definition", sa.Text()), schema="ops")
    op.add_column("run_steps", sa.Column("result", postgresql.JSONB(none_as_null=True)), schema="ops")
    op.add_column(
        "run_steps",
        sa.Column("must_run_again", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="ops",
    )
    op.drop_constraint(op.f("ck_run_steps_status"), "run_steps", schema="ops")
    op.create_check_constraint(
        op.f("ck_run_steps_status"), "run_steps", f"status IN ({BEFORE}, 'suspended', 'skipped')", schema="ops"
    )


def downgrade() -> None:
    op.execute("DELETE FROM ops.run_steps WHERE status IN ('suspended', 'skipped')")
    op.drop_constraint(op.f("ck_run_steps_status"), "run_steps", schema="ops")
    op.create_check_constraint(op.f("ck_run_steps_status"), "run_steps", f"status IN ({BEFORE})", schema="ops")
    op.drop_column("run_steps", "must_run_again", schema="ops")
    op.drop_column("run_steps", "result", schema="ops")
    op.drop_column("runs", "definition", schema="ops")
