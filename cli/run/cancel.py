"""`ops cancel`: ask Prefect for the end of a run."""

from __future__ import annotations

import getpass
import os
from uuid import UUID

import typer

from cli.output import console, errors, print_json, say
from cli.run.wait import follow, view_for
from deployments.server import runs as prefect_server
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import find_run, full_id, reading, short_id
from opsdb.settings import Settings

WAIT_SECONDS = 30.0


def cancel_run(settings: Settings, *, run: str, wait: bool, as_json: bool) -> None:
    """Cancel a run. Raises UsageError when it is over, and typer.Exit with 1 when it did not end in time."""
    run_id = _resolve(settings, run)
    name = short_id(run_id)
    with prefect_server.connect(settings) as server:
        answer = server.cancel(run_id, message=f"cancelled by {user()} with `ops cancel`")
        state = answer.state
        if not as_json:
            if state.status.terminal:
                said = f"Run {name} was cancelled before it started."
            elif answer.asked:
                said = f"Run {name} is being cancelled: its worker ends it and all its processes."
            else:
                said = f"Run {name} was being cancelled already."
            say(said)
        if wait and not state.status.terminal:
            with view_for(console, quiet=as_json) as view:
                state = follow(settings, server, run_id=run_id, view=view, limit_seconds=WAIT_SECONDS).state
    if as_json:
        print_json({"id": run_id, "short_id": name, "status": state.status, "state": state.name, "asked": answer.asked})
    if wait and not state.status.terminal:
        errors.print(
            f"Run {name} is still being cancelled after {WAIT_SECONDS:.0f} s. "
            f"`ops show {name}` tells when it is over; `ops status` tells whether its worker lives.",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)
    if wait and not as_json:
        console.print(f"Run {name} is {state.status}.", markup=False, highlight=False)


def _resolve(settings: Settings, text: str) -> UUID:
    """The run's id. One that is spelled in full needs no database: cancelling must work while it is away."""
    spelled = full_id(text)
    try:
        with reading(settings) as db:
            return find_run(db, text)
    except (RoomUnreachableError, UsageError):
        if spelled is None:
            raise
        return spelled


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
