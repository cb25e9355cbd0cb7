"""The locks of the room's own processes, which were advisory locks that any login could take."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

READERS = "ops_monitor, superset_ro"


def upgrade() -> None:
    op.create_table(
        "room_locks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_room_locks")),
        schema="ops",
    )
    op.execute("INSERT INTO ops.room_locks (name) VALUES ('alerter'), ('totals'), ('verdicts')")
    # to lock a row takes UPDATE, which readers lack; they may see by whom one is held
    op.execute("REVOKE INSERT, DELETE ON ops.room_locks FROM ops_writer")
    op.execute("ALTER TABLE ops.room_locks ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY room ON ops.room_locks TO ops_writer USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY readers ON ops.room_locks FOR SELECT TO {READERS} USING (true)")


def downgrade() -> None:
    op.drop_table("room_locks", schema="ops")
