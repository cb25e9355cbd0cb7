"""`ops cancel --all`: the end of every run that is not over, and what became of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

import typer

from cli.account import account
from cli.known_names import check_filters
from cli.run.cancel import WAIT_SECONDS, ask_to_cancel
from cli.run.view import called, runs_table, status_text
from cli.text import console, errors, print_json, say, show
from deployments.server import runs as prefect_server
from deployments.server.runs import PrefectServer
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import RunView, list_runs, read_statuses, reading, short_id
from opsdb.runs.origins import starter_of
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.tables import Lane, Run

MOST = 10_000
LOOK_SECONDS = 0.5


def cancel_all(
    settings: Settings,
    *,
    kind: str | None,
    lane: Lane | None,
    about: str | None,
    yes: bool,
    as_json: bool,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Cancel every run that fits the filters and is not over, also what they start meanwhile; wait until all are over.

    Raises UsageError when nobody confirmed, or when a filter has an unknown name, typer.Abort when somebody
    declined, and typer.Exit with 1 when a run is not over after 30 s.
    """

    found = _unfinished(settings, kind=kind, lane=lane, about=about)
    if not found:
        check_filters(settings, kind=kind, about=about)
    if found and not yes:
        _confirm(found, as_json=as_json)
    said: dict[UUID, str] = {}
    runs = {view.run.id: view.run for view in found}
    if found:
        with prefect_server.connect(settings) as server:
            deadline = time.monotonic() + WAIT_SECONDS
            while found:
                for view in found:
                    if view.run.id not in said:
                        runs[view.run.id] = view.run
                        said[view.run.id] = _cancel(settings, server, view.run.id)
                if time.monotonic() >= deadline:
                    break
                pause(LOOK_SECONDS)
                found = _still_to_end(_unfinished(settings), said)
    with reading(settings) as db:
        statuses = read_statuses(db, list(said))
    _report(said, statuses, runs, as_json=as_json)
    if any(not status.terminal for status in statuses.values()):
        raise typer.Exit(1)


def _unfinished(settings: Settings, **filters: Any) -> list[RunView]:
    with reading(settings) as db:
        return list_runs(db, **filters, unfinished=True, limit=MOST)


def _still_to_end(found: list[RunView], asked: Collection[UUID]) -> list[RunView]:
    """Of all unfinished runs those that were asked to end, and what they started, as a night its backups.

    What somebody else starts meanwhile was not in the list that was confirmed, and stays.
    """
    starters = {short_id(run_id) for run_id in asked}
    return [view for view in found if view.run.id in asked or starter_of(view.origin) in starters]


def _confirm(found: list[RunView], *, as_json: bool) -> None:
    """Show what would be cancelled, and ask. Raises UsageError without a terminal, typer.Abort for a no."""
    count = "1 run" if len(found) == 1 else f"{len(found)} runs"
    if as_json or not (sys.stdin.isatty() and console.is_terminal):
        raise UsageError(f"--all would cancel {count}: add --yes to cancel without being asked, see `ops runs`")
    show(runs_table(found))
    typer.confirm(f"Cancel {'it' if len(found) == 1 else f'these {count}'}?", abort=True)


def _cancel(settings: Settings, server: PrefectServer, run_id: UUID) -> str:
    """Ask for the end of one run. Returns what kept it from that, empty when nothing did."""
    try:
        ask_to_cancel(settings, server, run_id, message=f"cancelled by {account()} with `ops cancel --all`")
    except RoomUnreachableError:
        raise
    except UsageError as error:  # it ended meanwhile
        return str(error)
    return ""


def _report(said: dict[UUID, str], statuses: dict[UUID, RunStatus], runs: dict[UUID, Run], *, as_json: bool) -> None:
    if as_json:
        became = [
            {"id": run_id, "short_id": short_id(run_id), "kind": runs[run_id].kind, "status": statuses.get(run_id)}
            for run_id in said
        ]
        print_json({"cancelled": sum(one["status"] == RunStatus.CANCELLED for one in became), "runs": became})
        return
    for run_id, why in said.items():
        status = statuses.get(run_id, RunStatus.CANCELLED)
        line = f"{short_id(run_id)} {called(runs[run_id])}: "
        if status.terminal:
            say(f"{line}{status_text(status.value).plain}")
        else:
            say(f"{line}not over after {WAIT_SECONDS:.0f} s ({why or f'`ops show {short_id(run_id)}` says when'})")
    cancelled = sum(status is RunStatus.CANCELLED for status in statuses.values())
    if said:
        say(f"{cancelled} of {len(said)} cancelled.")
    else:
        say("Nothing to cancel: no unfinished run matches.", to=errors)
