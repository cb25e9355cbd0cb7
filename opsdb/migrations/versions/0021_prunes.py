"""What was deleted because it was old, and whether this room deletes it by itself."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

READERS = "ops_monitor, superset_ro"


def upgrade() -> None:
    op.create_table(
        "prunes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column(
            "deleted",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.CheckConstraint("started_by IN ('room', 'person', 'installation')", name=op.f("ck_prunes_started_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prunes")),
        schema="ops",
    )
    op.execute("ALTER TABLE ops.prunes ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY room ON ops.prunes TO ops_writer USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY readers ON ops.prunes FOR SELECT TO {READERS} USING (true)")
    # A room without runs has nothing to lose: from its first day it prunes by itself. Another one is asked.
    op.execute(
        "INSERT INTO ops.prunes (started_by, finished_at) "
        "SELECT 'installation', clock_timestamp() WHERE NOT EXISTS (SELECT FROM ops.runs)"
    )


def downgrade() -> None:
    op.drop_table("prunes", schema="ops")
