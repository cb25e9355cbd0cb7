"""A run that is waited for: how it ended, and the command's exit code."""

from __future__ import annotations

from typing import Any

import typer

from cli.run.reasons import queue_hint
from cli.run.view import details_document, error_lines
from cli.run.wait import Moment, follow, view_for
from cli.text import console, errors, lines, print_json, result_rows, say
from deployments.server.runs import PrefectServer
from opsdb.errors import RoomUnreachableError
from opsdb.runs.lookup import short_id
from opsdb.settings import Settings
from opsdb.states import RunStatus


def wait_for(
    settings: Settings,
    server: PrefectServer,
    document: dict[str, Any],
    *,
    as_json: bool,
    since_attempt: int = 1,
) -> None:
    """Follow the run of a document to its end, and report that. Raises typer.Exit with 1 when it did not succeed."""
    run = document["short_id"]
    try:
        with view_for(console, quiet=as_json) as view:
            end = follow(
                settings,
                server,
                run_id=document["id"],
                view=view,
                why_queued=lambda: queue_hint(settings, server, document["id"]),
                since_attempt=since_attempt,
            )
    except KeyboardInterrupt:
        errors.print(f"Stopped watching; run {run} is still running. `ops cancel {run}` ends it.", markup=False)
        raise typer.Exit(130) from None
    except RoomUnreachableError as error:
        raise RoomUnreachableError(f"{error} Run {run} was started and may still be running.") from error
    if as_json:
        print_json(_final_document(document, end))
    else:
        report_end(settings, end)
    if end.state.status is not RunStatus.SUCCEEDED:
        raise typer.Exit(1)


def _final_document(document: dict[str, Any], end: Moment) -> dict[str, Any]:
    """The run when it is over, for programs: Prefect's status with all that is recorded."""
    recorded = details_document(end.details) if end.details else {"steps": [], "error": _error(end)}
    return {**document, **recorded, "status": end.state.status}


def report_end(settings: Settings, end: Moment) -> None:
    """Say how the run ended: what it gave back, or why it did not succeed and where to look."""
    run, status = short_id(end.run_id), end.state.status
    style = "green" if status is RunStatus.SUCCEEDED else "bold red" if status is RunStatus.FAILED else "yellow"
    console.print(f"Run {run} {'was cancelled' if status is RunStatus.CANCELLED else status}.", style=style)
    if status is RunStatus.SUCCEEDED:
        if rows := result_rows(end.details.view.run.result if end.details else None):
            console.print(lines(rows, indent="  "), soft_wrap=True)
        return
    for line in error_lines(_error(end)):
        say(line)
    if end.overdue:
        say("The room was to try it again, and has not in time. It may begin yet: `ops status` says what is wrong")
    logs = settings.logs / str(end.run_id)
    say(f"More: ops show {run}" + (f"  |  ops logs {run}  ({logs})" if logs.is_dir() else ""))


def _error(end: Moment) -> dict[str, Any] | None:
    if end.details and end.details.view.run.error:
        return end.details.view.run.error
    if end.state.message or end.state.status is RunStatus.FAILED:
        return {"type": end.state.name, "message": end.state.message or ""}
    return None
