"""What a started run waits for, as soon as a run may hold more than one resource."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("waits_for_resource", sa.Text()), schema="ops")


def downgrade() -> None:
    op.drop_column("runs", "waits_for_resource", schema="ops")
