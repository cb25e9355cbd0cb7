"""`ops exporter`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from opsdb.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Parts of the room: `ops up` runs them")(exporter)


def exporter(
    *,
    hash_password: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Ask for a password and print the value of OPS_EXPORTER_BASIC_AUTH."),
    ] = None,
) -> None:
    """Serve metrics for Prometheus out of the ops database, until told to stop.

    They are on 127.0.0.1:9464/metrics unless OPS_EXPORTER_PORT and OPS_EXPORTER_ADDRESS say otherwise.
    """
    if hash_password is not None:
        _print_hash(hash_password)
        return
    # in place of this process, without the weight of the command line
    os.execv(sys.executable, [sys.executable, "-m", "exporter"])  # noqa: S606  # no shell is what is wanted


def _print_hash(name: str) -> None:
    from exporter.metrics import credentials

    if not name or ":" in name:
        raise UsageError("--hash-password: want a name without a colon")
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise UsageError("--hash-password: no password was given")
    sys.stdout.write(credentials.hash_password(name, password) + "\n")
