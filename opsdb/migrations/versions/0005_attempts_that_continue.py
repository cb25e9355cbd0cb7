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
    op.add_column("run_steps", sa.Column("definition", sa.Text()), schema="ops")
    op.add_column(
        "run_steps",
        sa.Column("must_run_again", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="ops",
    )
    op.drop_constraint(op.f("ck_run_steps_status"), "run_steps", schema="ops")
    op.create_check_constraint(
        op.f("ck_run_steps_status"), "run_steps", f"status IN ({BEFORE}, 'suspended', 'skipped')", schema="ops"
    )
    op.create_table(
        "step_results",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("result", postgresql.JSONB(none_as_null=True), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["ops.runs.id"], name=op.f("fk_step_results_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "attempt", "index", name=op.f("pk_step_results")),
        schema="ops",
    )
    op.execute("REVOKE ALL ON ops.step_results FROM ops_monitor, superset_ro")  # 0001's default privileges gave it
    op.execute("ALTER TABLE ops.step_results ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY room ON ops.step_results TO ops_writer USING (true) WITH CHECK (true)")


def downgrade() -> None:
    op.drop_table("step_results", schema="ops")
    op.execute("DELETE FROM ops.run_steps WHERE status IN ('suspended', 'skipped')")
    op.drop_constraint(op.f("ck_run_steps_status"), "run_steps", schema="ops")
    op.create_check_constraint(op.f("ck_run_steps_status"), "run_steps", f"status IN ({BEFORE})", schema="ops")
    op.drop_column("run_steps", "must_run_again", schema="ops")
    op.drop_column("run_steps", "definition", schema="ops")
