"""Alembic's entry: runs the migrations on the connection that `opsdb.migrate` hands over."""

from alembic import context

from opsdb import deployed, plan_tables, room_locks, tables  # noqa: F401 - the metadata holds what was imported
from opsdb.alerts import tables as alerts_tables  # noqa: F401 - the metadata holds what was imported
from opsdb.retention import tables as retention_tables  # noqa: F401 - the metadata holds what was imported
from opsdb.runs import template_versions, totals  # noqa: F401 - the metadata holds what was imported
from opsdb.schedules import tables as schedules_tables  # noqa: F401 - the metadata holds what was imported
from opsdb.schema import SCHEMA, Table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
