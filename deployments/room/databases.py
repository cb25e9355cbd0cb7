"""`python -m deployments.room.databases`: makes the room's databases and brings the schema `ops` up to date.

A process of its own, so that a migration that waits for a lock does not hold up the supervisor.
"""

from __future__ import annotations

import sys

from sqlalchemy.exc import DBAPIError

from opsdb.database import driver_url, first_line
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.migrate import create_database, upgrade
from opsdb.settings import Settings, load_settings


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
    return upgrade(settings)


def main() -> None:
    """Prepare the databases; errors are one line and an exit code."""
    try:
        revision = prepare_databases(load_settings())
    except OpsError as error:
        print(f"ops: {error}", flush=True)
        sys.exit(3 if isinstance(error, RoomUnreachableError) else 2)
    print(f"the schema ops is at revision {revision}", flush=True)


if __name__ == "__main__":
    main()
