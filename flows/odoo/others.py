"""The other Odoo databases of the server, some of which the service that is stopped and started may serve as well."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from blocks.odoo_host import OdooHost
from flows.backup.odoo_databases import find_odoo_databases
from flows.engine.active_run import current_run
from flows.odoo.modules import name_marked, read_modules
from opsdb.errors import PreflightError

SHOWN = 20


def name_others(database: str, host: OdooHost, *, url: str) -> None:
    """Say which they are, and in which of them modules are marked. Only Odoo's configuration knows which it serves.

    A running Odoo leaves a mark alone that somebody made in the database. An Odoo that is started carries it out when
    it first loads that database.
    """
    others = [name for name in find_odoo_databases(url) or [] if name != database]
    if not others:
        return
    run = current_run()
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    run.event(
        f"other Odoo databases on the same PostgreSQL server: {', '.join(others[:SHOWN])}{more}. Those that "
        f"{host.service} serves as well are stopped with it, and run with the commit that {host.repo_dir} has when "
        "it starts: the one of the upgrade, or the previous one where no module was touched",
        databases=others,
    )
    for name in others[:SHOWN]:
        with suppress(PreflightError, psycopg.Error):  # it is somebody else's, and may be closed to the room or locked
            if marked := name_marked(read_modules(name, url=url)):
                run.event(
                    f"modules of {name} are marked: {marked}. If {host.service} serves it too, Odoo carries that out "
                    "there once it is started again, with nothing kept to take it back. Hint: in its Odoo, under Apps, "
                    "cancel it or apply it first",
                    level="warning",
                )
