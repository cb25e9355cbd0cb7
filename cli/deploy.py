"""`ops deploy`."""

from __future__ import annotations

import typer

from cli.output import console
from opsdb.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Parts of the room: `ops up` runs them")(deploy)


def deploy() -> None:
    """Apply the lanes, the deployments of prefect.yaml and the types of blocks to Prefect.

    Repeating it changes nothing.
    """
    from deployments import access

    settings = load_settings()
    access.use(settings)
    from deployments import lanes

    lanes.deploy(settings, say=lambda line: console.print(line, markup=False))
