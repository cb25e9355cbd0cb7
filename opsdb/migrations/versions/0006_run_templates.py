"""The versions of templates that ran, which nobody can change."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

READERS = "ops_monitor, superset_ro"
REFUSE = """
CREATE FUNCTION ops.keep_run_template() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'ops.run_templates holds what ran: its rows are neither changed nor deleted'
        USING ERRCODE = 'restrict_violation';
END $$
"""


def _json(name: str) -> sa.Column[object]:
    return sa.Column(
        name,
        postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
        server_default=sa.text("'{}'::jsonb"),
        nullable=False,
    )


def upgrade() -> None:
    op.create_table(
        "run_templates",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        _json("steps"),
        sa.Column("timeout_seconds", sa.Double(), nullable=True),
        _json("retry_policy"),
        sa.Column("definition", sa.Text(), nullable=False),
        _json("document"),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_templates")),
        sa.UniqueConstraint("kind", "version", name=op.f("uq_run_templates_kind_version")),
        sa.UniqueConstraint("kind", "definition", name=op.f("uq_run_templates_kind_definition")),
        schema="ops",
    )
    op.execute("ALTER TABLE ops.run_templates ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY room ON ops.run_templates TO ops_writer USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY readers ON ops.run_templates FOR SELECT TO {READERS} USING (true)")
    op.execute("REVOKE UPDATE, DELETE, TRUNCATE ON ops.run_templates FROM ops_writer")
    # who owns the table needs no right to change it: the embedded room does all as its owner
    op.execute(REFUSE)
    op.execute(
        "CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.run_templates "
        "FOR EACH STATEMENT EXECUTE FUNCTION ops.keep_run_template()"
    )


def downgrade() -> None:
    op.drop_table("run_templates", schema="ops")
    op.execute("DROP FUNCTION ops.keep_run_template()")
