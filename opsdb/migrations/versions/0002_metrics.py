"""What the metrics are read from: totals and their deltas, the workers' marks, and the triggers that count runs.

Each event is counted in the transaction in which it happens, by one row of `metric_deltas`; `opsdb/runs/totals.py` adds
those into `metric_totals`. Nothing counts when history is deleted, so retention moves no counter.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("metric_totals", "metric_deltas", "workers")
READERS = "ops_monitor, superset_ro"

COUNT_RUN = """
CREATE FUNCTION ops.count_run() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    waiting_since timestamptz := NEW.created_at;
    ended_at timestamptz := NEW.finished_at;
    seconds numeric; -- and so is the column: sums of double precision depend on their order, and would go back
BEGIN
    -- in an INSERT, OLD is all NULL
    IF TG_OP = 'INSERT' THEN
        INSERT INTO ops.metric_deltas (name, kind, lane) VALUES ('created', NEW.kind, NEW.lane);
    END IF;

    IF NEW.started_at IS NOT NULL
       AND (OLD.started_at IS NULL OR (NEW.attempt > OLD.attempt AND NEW.started_at > OLD.started_at)) THEN
        IF NEW.attempt > 1 THEN  -- since it waits again, after all that the attempts before have said
            SELECT coalesce(min(s.at), NEW.started_at) INTO waiting_since FROM ops.run_states s
            WHERE s.run_id = NEW.id AND s.at <= NEW.started_at AND s.type IN ('SCHEDULED', 'PENDING') AND s.at > (
                SELECT coalesce(max(b.at), '-infinity') FROM ops.run_states b
                WHERE b.run_id = NEW.id AND b.at < NEW.started_at AND b.type NOT IN ('SCHEDULED', 'PENDING'));
        END IF;
        seconds := greatest(0, extract(epoch FROM NEW.started_at - waiting_since));
        INSERT INTO ops.metric_deltas (name, kind, lane, label, value)
        SELECT 'queue_wait', NEW.kind, NEW.lane, coalesce(min(b)::text, 'Infinity'), seconds
        FROM unnest(ARRAY[.1, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600]) b WHERE seconds <= b;
    END IF;

    IF NEW.finished_at IS NOT NULL
       AND (OLD.finished_at IS NULL OR (NEW.attempt > OLD.attempt AND NEW.finished_at > OLD.finished_at)) THEN
        INSERT INTO ops.metric_deltas (name, kind, lane, label, at)
        VALUES ('finished', NEW.kind, NEW.lane, NEW.status, NEW.finished_at);
        IF NEW.started_at IS NOT NULL THEN
            -- the room's own verdict carries the time of the state before it: the last sign of life is the heartbeat
            IF EXISTS (SELECT FROM ops.run_states s WHERE s.id = NEW.state_id AND s.source = 'room') THEN
                ended_at := greatest(NEW.finished_at, NEW.heartbeat_at);
            END IF;
            seconds := greatest(0, extract(epoch FROM ended_at - NEW.started_at));
            INSERT INTO ops.metric_deltas (name, kind, lane, label, value)
            SELECT 'duration', NEW.kind, NEW.lane, coalesce(min(b)::text, 'Infinity'), seconds
            FROM unnest(ARRAY[1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800]) b
            WHERE seconds <= b;
        END IF;
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "metric_totals",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Numeric(), nullable=False),
        sa.Column("latest_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", "kind", "lane", "label", name=op.f("pk_metric_totals")),
        schema="ops",
    )
    op.create_table(
        "metric_deltas",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("lane", sa.Text(), server_default="", nullable=False),
        sa.Column("label", sa.Text(), server_default="", nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("value", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_deltas")),
        schema="ops",
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("name", "lane", name=op.f("pk_workers")),
        schema="ops",
    )
    op.create_index(
        "ix_runs_last_backup",
        "runs",
        [sa.text("(params ->> 'odoo_db')"), sa.text("finished_at DESC")],
        schema="ops",
        postgresql_where=sa.text("kind = 'odoo_db_backup' AND status = 'succeeded'"),
    )
    for table in TABLES:
        op.execute(f"ALTER TABLE ops.{table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY room ON ops.{table} TO ops_writer USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY readers ON ops.{table} FOR SELECT TO {READERS} USING (true)")
    # room on each page for the next version of a row: a heartbeat is a HOT update then, also of runs made at once
    op.execute("ALTER TABLE ops.runs SET (fillfactor = 80)")
    op.execute(
        "INSERT INTO ops.metric_totals (name, kind, lane, label, count, value) "
        "SELECT 'created', kind, lane, '', count(*), 0 FROM ops.runs GROUP BY kind, lane"
    )
    op.execute(
        "INSERT INTO ops.metric_totals (name, kind, lane, label, count, value, latest_at) "
        "SELECT 'finished', kind, lane, status, count(*), 0, max(finished_at) FROM ops.runs "
        "WHERE finished_at IS NOT NULL GROUP BY kind, lane, status"
    )
    op.execute(COUNT_RUN)
    op.execute("CREATE TRIGGER count_new AFTER INSERT ON ops.runs FOR EACH ROW EXECUTE FUNCTION ops.count_run()")
    op.execute(
        "CREATE TRIGGER count_changed AFTER UPDATE OF started_at, finished_at ON ops.runs FOR EACH ROW "
        "WHEN (NEW.started_at IS DISTINCT FROM OLD.started_at OR NEW.finished_at IS DISTINCT FROM OLD.finished_at) "
        "EXECUTE FUNCTION ops.count_run()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER count_new ON ops.runs")
    op.execute("DROP TRIGGER count_changed ON ops.runs")
    op.execute("DROP FUNCTION ops.count_run()")
    op.execute("ALTER TABLE ops.runs RESET (fillfactor)")
    op.drop_index("ix_runs_last_backup", table_name="runs", schema="ops")
    for table in TABLES:
        op.drop_table(table, schema="ops")
