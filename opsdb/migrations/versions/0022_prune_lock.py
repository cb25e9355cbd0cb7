"""The lock of `ops db prune`: one pass at a time."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("INSERT INTO ops.room_locks (name) VALUES ('prune')")


def downgrade() -> None:
    op.execute("DELETE FROM ops.room_locks WHERE name = 'prune'")
