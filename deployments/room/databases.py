"""`python -m deployments.room.databases`: makes the room's databases and brings the schema `ops` up to date.

A process of its own, so that a migration that waits for a lock does not hold up the supervisor.
"""

from __future__ import annotations

import sys

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from opsdb.database import driver_url, first_line
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.migrate import create_database, upgrade
from opsdb.public_access import close_to_public, maintaining, names_made_here
from opsdb.settings import Settings, load_settings
from opsdb.standard_streams import make_unfailing


def prepare_databases(settings: Settings) -> str:
    """Make what is missing, for `ops` and for Prefect. Returns the revision of the schema `ops`.

    Raises OpsError that names the database which could not be made.
    """
    names = [settings.prefect_database]
    server = settings.ops_url
    if settings.embedded:
        server = driver_url(settings.ops_url, database="postgres").render_as_string(hide_password=False)
        names.insert(0, "ops")
    for name in names:
        try:
            create_database(server, name)
        except DBAPIError as error:
            raise OpsError(
                f"the database {name} could not be made ({first_line(error)}): make it by hand, owned by this user"
            ) from error
    return upgrade_databases(settings)


def upgrade_databases(settings: Settings) -> str:
    """Bring the schema `ops` up to date, and close the databases that the room made. Returns the schema's revision.

    Whoever holds a right in such a database may still connect, nobody else of the server may. Raises OpsError.
    """
    revision = upgrade(settings)
    ops = make_url(settings.ops_url).database or ""
    names = [ops, settings.prefect_database]
    try:
        if not settings.embedded:  # the embedded server is the room's own
            with maintaining(settings.ops_url, ops) as db:
                names = names_made_here(db, names)
        for name in names:
            with maintaining(settings.ops_url, name) as db:
                close_to_public(db)
    except DBAPIError as error:
        raise OpsError(f"a database of the room could not be closed to other logins: {first_line(error)}") from error
    return revision


def main() -> None:
    """Prepare the databases; errors are one line and an exit code."""
    make_unfailing()
    try:
        revision = prepare_databases(load_settings())
    except OpsError as error:
        print(f"ops: {error}", flush=True)
        sys.exit(3 if isinstance(error, RoomUnreachableError) else 2)
    print(f"the schema ops is at revision {revision}", flush=True)


if __name__ == "__main__":
    main()
