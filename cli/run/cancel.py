"""`ops cancel`: ask Prefect for the end of a run."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import typer

from cli.account import account
from cli.run.wait import follow, view_for
from cli.text import console, errors, print_json, say
from deployments.server import runs as prefect_server
from deployments.server.runs import Cancelled, PrefectServer, UnknownRunError
from opsdb.database import writing
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.deleted import cancel_deleted
from opsdb.runs.lookup import find_run, full_id, reading, short_id
from opsdb.runs.names import Verb
from opsdb.runs.runs import recorded_states
from opsdb.runs.sessions import is_cancelled
from opsdb.settings import Settings

WAIT_SECONDS = 30.0


def cancel_run(settings: Settings, *, run: str, wait: bool, as_json: bool) -> None:
    """Cancel a run. Raises UsageError when it is over, and typer.Exit with 1 when it did not end in time."""
    run_id = _resolve(settings, run)
    name = short_id(run_id)
    with prefect_server.connect(settings) as server:
        answer = ask_to_cancel(settings, server, run_id, message=f"cancelled by {account()} with `ops cancel`")
        state = answer.state
        if not as_json:
            if state.status.terminal:
                said = f"Run {name} was cancelled. Nothing of it was running."
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
            f"`ops show {name}` shows when it is over; `ops status` shows whether its worker lives.",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)
    if wait and not as_json:
        console.print(f"Run {name} {state.status.told}.", markup=False)


def _resolve(settings: Settings, text: str) -> UUID:
    """The run's id. A complete id needs no database: cancelling must work while it is away."""
    spelled = full_id(text)
    try:
        with reading(settings) as db:
            return find_run(db, text, Verb.CANCEL)
    except (RoomUnreachableError, UsageError):
        if spelled is None:
            raise
        return spelled


def ask_to_cancel(settings: Settings, server: PrefectServer, run_id: UUID, *, message: str) -> Cancelled:
    """Ask for the end of a run, where its state is: in the ops database when it was deleted in Prefect."""
    try:
        return server.cancel(run_id, message=message)
    except UnknownRunError:
        with writing(settings, application="cli") as db:
            asked = cancel_deleted(db, run_id=run_id, by=message)
            states = recorded_states(db, run_id=run_id)
        if not states:
            raise
        if not asked:
            raise UsageError(
                f"run {short_id(run_id)} was deleted in Prefect and is over: there is nothing to cancel"
            ) from None
        return Cancelled(state=states[-1], asked=True)


def cancel_if_session_cancelled(settings: Settings, server: PrefectServer, *, run_id: UUID, session_id: UUID) -> None:
    """Look at the session again, after the start of a run of it: who cancelled it may not have seen that run.

    Raises UsageError when the session is cancelled: the run then is as well. While the database is away, it is not.
    """
    try:
        with reading(settings) as db:
            cancelled = is_cancelled(db, session_id)
    except RoomUnreachableError:
        return
    if cancelled:
        with suppress(UsageError):  # the other one saw it, or it is over
            server.cancel(run_id, message=f"its session {session_id} was cancelled meanwhile")
        raise UsageError(
            f"session {session_id} was cancelled meanwhile: run {short_id(run_id)}, which had just been started, was "
            f"cancelled as well"
        )
