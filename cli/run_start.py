"""`ops run`: check, start, and with --wait follow to the end."""

from __future__ import annotations

from typing import Any

import typer

from cli.harmless import harmless_line
from cli.output import console, errors, print_json
from cli.run_params import parameters, split_assignments, storable
from cli.run_result import lines, result_rows
from cli.run_view import details_document, error_lines
from cli.run_wait import Moment, follow, view_for
from deployments import starting
from deployments.starting import PrefectServer, Startable, Started
from opsdb.database import connect, reachable
from opsdb.errors import RoomUnreachableError
from opsdb.lookup import short_id
from opsdb.sessions import join_session
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.tables import Lane


def start_run(
    settings: Settings,
    *,
    kind: str,
    assignments: list[str],
    lane: Lane,
    priority: int,
    session: str | None,
    idempotency_key: str | None,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start a run as `ops run` does. Everything is checked before anything is made.

    Raises UsageError, RoomUnreachableError, and typer.Exit with 1 when a run that was waited for did not succeed.
    """
    given = split_assignments(assignments)
    for text, what in ((kind, "KIND"), (session, "--session"), (idempotency_key, "--idempotency-key")):
        storable(text or "", what=what)
    with starting.prefect_server(settings) as server:
        startable = server.startable(kind=kind, lane=lane)
        params = parameters(given, schema=startable.schema, defaults=startable.defaults)
        if dry_run:
            from cli.run_dry import show_dry_run

            show_dry_run(settings, kind=kind, lane=lane, params={**startable.defaults, **params}, as_json=as_json)
            return
        session_id = None
        if session is not None:
            session_id = _join_session(settings, session)
        started = server.start(
            startable, params=params, priority=priority, session_id=session_id, idempotency_key=idempotency_key
        )
        document = _document(server, startable, started, params=params, priority=priority, session=session)
        if not as_json:
            _announce(document, new=started.new)
        if wait:
            wait_for(settings, server, document, lane=startable.lane, as_json=as_json)
        elif as_json:
            print_json(document)
        else:
            run = short_id(started.id)
            _say(f"Next: ops show {run}  |  ops logs {run} --follow  |  ops cancel {run}")


def _join_session(settings: Settings, text: str) -> Any:
    engine = connect(settings, application="cli")
    try:
        with reachable(), engine.begin() as db:
            return join_session(db, text)
    finally:
        engine.dispose()


def _document(
    server: PrefectServer,
    startable: Startable,
    started: Started,
    *,
    params: dict[str, Any],
    priority: int,
    session: str | None,
) -> dict[str, Any]:
    return {
        "id": started.id,
        "short_id": short_id(started.id),
        "name": started.name,
        "kind": startable.kind,
        "lane": startable.lane,
        "priority": priority,
        "params": {**startable.defaults, **params},
        "session": session,
        "status": started.state.status,
        "new": started.new,
        "address": server.address(started.id),
    }


def _announce(document: dict[str, Any], *, new: bool) -> None:
    kind, lane = harmless_line(document["kind"]), document["lane"]
    if new:
        _say(f"Run {document['short_id']} of {kind} waits in lane {lane}.")
    else:
        _say(f"Run {document['short_id']} of {kind} was started before under this key; it is {document['status']}.")
    _say(f"{document['id']}  {document['address']}")


def wait_for(
    settings: Settings,
    server: PrefectServer,
    document: dict[str, Any],
    *,
    lane: Lane,
    as_json: bool,
    since_attempt: int = 1,
) -> None:
    """Follow the run of a document to its end, and report that. Raises typer.Exit with 1 when it did not succeed."""
    run = document["short_id"]
    try:
        with view_for(console, quiet=as_json) as view:
            end = follow(settings, server, run_id=document["id"], lane=lane, view=view, since_attempt=since_attempt)
    except KeyboardInterrupt:
        errors.print(f"No longer waiting; run {run} goes on. `ops cancel {run}` ends it.", markup=False)
        raise typer.Exit(130) from None
    except RoomUnreachableError as error:
        raise RoomUnreachableError(f"{error} Run {run} was started and may go on.") from error
    if as_json:
        print_json(final_document(document, end))
    else:
        report_end(settings, end)
    if end.state.status is not RunStatus.SUCCEEDED:
        raise typer.Exit(1)


def final_document(document: dict[str, Any], end: Moment) -> dict[str, Any]:
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
        _say(line)
    logs = settings.logs / str(end.run_id)
    _say(f"More: ops show {run}" + (f"  |  ops logs {run}  ({logs})" if logs.is_dir() else ""))


def _error(end: Moment) -> dict[str, Any] | None:
    if end.details and end.details.view.run.error:
        return end.details.view.run.error
    if end.state.message or end.state.status is RunStatus.FAILED:
        return {"type": end.state.name, "message": end.state.message or ""}
    return None


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
