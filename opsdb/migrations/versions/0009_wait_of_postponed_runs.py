"""How long a run that was postponed waited for its start is counted from the time until which it wanted to wait."""

from importlib import import_module

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COUNT_RUN: str = import_module("opsdb.migrations.versions.0002_metrics").COUNT_RUN.replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
)
SINCE = "SELECT coalesce(min(s.at), NEW.started_at) INTO waiting_since"
SINCE_DUE = """SELECT coalesce(min(coalesce(
                substring(s.message FROM '^waits until ([0-9]{4}(-[0-9]{2}){2} [0-9]{2}(:[0-9]{2}){2} UTC): ')
                  ::timestamptz, s.at)), NEW.started_at) INTO waiting_since"""


def upgrade() -> None:
    op.execute(COUNT_RUN.replace(SINCE, SINCE_DUE))


def downgrade() -> None:
    op.execute(COUNT_RUN)
