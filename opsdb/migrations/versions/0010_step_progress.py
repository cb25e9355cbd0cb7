"""How far a running step is, written with the heartbeat of its run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    progress = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("run_steps", sa.Column("progress", progress), schema="ops")


def downgrade() -> None:
    op.drop_column("run_steps", "progress", schema="ops")
