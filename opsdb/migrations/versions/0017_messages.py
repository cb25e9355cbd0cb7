"""Messages have a level and a title, for destinations that show them by themselves; incidents can be acknowledged."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# What was written before has all that in its first line, which may go on with a name that somebody else chose. The end
# of a run that failed was green.
FILL = """
UPDATE ops.alert_messages m
SET title = replace(coalesce(substring(split_part(m.body, E'\\n', 1) FROM '^[^*`]*[*][*][^*`]*[*][*]'), 'An alert'),
                    '**', ''),
    level = CASE WHEN m.event = 'resolved' AND m.body LIKE '%Became: `failed`%' THEN 'failure'
                 WHEN m.event = 'resolved' THEN 'info'
                 WHEN i.rule IN ('overdue', 'claim', 'queued', 'failed', 'approval') THEN 'warning'
                 ELSE 'critical' END
FROM ops.alert_incidents i WHERE i.id = m.incident_id
"""
RED = """
UPDATE ops.alert_messages
SET title = replace(title, '✅ Resolved', '🔴 Ended In Failure'),
    body = replace(body, '✅ **Resolved', '🔴 **Ended In Failure')
WHERE level = 'failure'
"""
EVENTS = "event IN ('firing', 'repeat', {more}'resolved')"
LEVELS = "level IN ('critical', 'failure', 'warning', 'info', 'success')"


def upgrade() -> None:
    op.add_column("alert_incidents", sa.Column("acknowledged_at", sa.DateTime(timezone=True)), schema="ops")
    op.add_column("alert_incidents", sa.Column("acknowledged_by", sa.Text()), schema="ops")
    for name in ("level", "title"):
        op.add_column("alert_messages", sa.Column(name, sa.Text()), schema="ops")
    op.execute(FILL)
    op.execute(RED)
    for name in ("level", "title"):
        op.alter_column("alert_messages", name, nullable=False, schema="ops")
    op.create_check_constraint(op.f("ck_alert_messages_level"), "alert_messages", LEVELS, schema="ops")
    op.add_column("alert_episodes", sa.Column("end_told_at", sa.DateTime(timezone=True)), schema="ops")
    _allow_events(more="'ended', ")


def downgrade() -> None:
    op.execute("DELETE FROM ops.alert_messages WHERE event = 'ended'")
    _allow_events(more="")
    op.drop_column("alert_episodes", "end_told_at", schema="ops")
    op.drop_constraint(op.f("ck_alert_messages_level"), "alert_messages", schema="ops")
    for name in ("title", "level"):
        op.drop_column("alert_messages", name, schema="ops")
    for name in ("acknowledged_by", "acknowledged_at"):
        op.drop_column("alert_incidents", name, schema="ops")


def _allow_events(*, more: str) -> None:
    op.drop_constraint(op.f("ck_alert_messages_event"), "alert_messages", schema="ops")
    condition = EVENTS.format(more=more)
    op.create_check_constraint(op.f("ck_alert_messages_event"), "alert_messages", condition, schema="ops")
