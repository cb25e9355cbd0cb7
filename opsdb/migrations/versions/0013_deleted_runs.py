"""Which runs a schedule planned, and which ones Prefect does not have any more."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("tick", sa.Text()), schema="ops")
    op.add_column("runs", sa.Column("deleted_at", sa.DateTime(timezone=True)), schema="ops")
    op.create_index(
        "ix_runs_deleted_at",
        "runs",
        ["deleted_at"],
        schema="ops",
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_runs_deleted_at", table_name="runs", schema="ops")
    op.drop_column("runs", "deleted_at", schema="ops")
    op.drop_column("runs", "tick", schema="ops")
