"""`ops db`: the database of the record."""

from __future__ import annotations

import typer

from cli.text import console
from opsdb.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    db = typer.Typer(help="The ops database.", no_args_is_help=True)
    db.command()(upgrade)
    app.add_typer(db, name="db", rich_help_panel="Parts of the room: `ops up` runs them")


def upgrade() -> None:
    """Make the roles and the schema `ops`, and run the migrations that are missing.

    A database that the room made itself is closed to logins that hold no right in it. Repeating it changes nothing.
    """
    from deployments.room.databases import upgrade_databases

    revision = upgrade_databases(load_settings())
    console.print(f"the schema ops stands at revision {revision}", markup=False)
