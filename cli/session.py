"""The commands about sessions: create, list, show, cancel."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text
from sqlalchemy import Connection

from cli.account import account
from cli.columns import Columns
from cli.options import JsonOption, not_blank, storable
from cli.text import console, errors, lines, moment, print_json, safe_line, say
from cli.text import show as show_table
from opsdb.database import writing
from opsdb.errors import UsageError
from opsdb.runs.deleted import cancel_deleted, unfinished_deleted
from opsdb.runs.lookup import RunView, list_runs, reading, short_id
from opsdb.runs.origins import starter_of
from opsdb.runs.sessions import (
    SessionProgress,
    cancel_session,
    find_session,
    is_ad_hoc,
    list_sessions,
    make_session,
    read_session,
)
from opsdb.settings import Settings, load_settings

STATUS_STYLE = {"active": "blue", "completed": "green", "cancelled": "yellow"}

SessionArgument = Annotated[
    str,
    typer.Argument(metavar="SESSION", help="Its name, or its id or 4 or more characters of that.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    session = typer.Typer(help="Runs that belong together.", no_args_is_help=True)
    for name, command in (("create", create), ("list", list_), ("show", show), ("cancel", cancel)):
        session.command(name)(command)
    app.add_typer(session, name="session", rich_help_panel="Runs")


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.", show_default=False)],
    *,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a session. `ops run --session` puts runs into it, by its id or its name.

    Example: ops session create "Release 18.2" --description "upgrade of all shops"
    """
    for text, what in ((name, "NAME"), (description, "--description")):
        storable(text or "", what=what)
    not_blank(name, what="NAME")
    settings = load_settings()
    with writing(settings, application="cli") as db:
        made = make_session(db, name=name, description=description)
    if as_json:
        print_json({"id": made, "name": name})
    else:
        say(f"Session {made} made. Next: ops run KIND --session {made}")


def list_(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List sessions, the newest first, with the counts of their runs.

    Example: ops session list --json
    """
    with reading(load_settings()) as db:
        found = list_sessions(db, limit=limit)
        now = _now(db)
    if as_json:
        print_json([asdict(each) for each in found])
    elif found:
        show_table(_table(found, now))
    else:
        errors.print("No sessions yet. Make one: ops session create NAME", markup=False)


def show(session: SessionArgument, as_json: JsonOption = False) -> None:
    """Show a session and its runs.

    Example: ops session show "Daily Backup"
    """
    from cli.run.view import called, run_document, run_reason, runs_table

    storable(session, what="SESSION")
    with reading(load_settings()) as db:
        progress = read_session(db, find_session(db, session))
        runs = list_runs(db, session=str(progress.id), limit=10_000)
        starters = _unfinished_starters(db, runs)
        now = _now(db)
    if as_json:
        documents = {"goes_on": starters, "of": runs}
        print_json(asdict(progress) | {name: [run_document(view) for view in of] for name, of in documents.items()})
        return
    say(f"Session {progress.id}")
    rows = {
        "name": safe_line(progress.name, width=500),
        "description": safe_line(progress.description or "", width=500),
        "status": progress.status,
        "made": f"{moment(progress.created_at, now)} by {progress.triggered_by}",
        "runs": _counts(progress),
    }
    shown = [(name, text) for name, text in rows.items() if text]
    for view in starters:
        starter = f"run {short_id(view.run.id)} ({called(view.run)}), which starts its runs"
        shown.append(("starter", f"{starter}: {run_reason(view) or view.run.status}"))
    show_table(lines(shown, indent="  "))
    if runs:
        console.print()
        show_table(runs_table(runs))


def cancel(session: SessionArgument, as_json: JsonOption = False) -> None:
    """Cancel a session: no run joins it any more, and each of its runs is cancelled.

    Example: ops session cancel "Release 18.2"
    """
    storable(session, what="SESSION")
    settings = load_settings()
    with reading(settings) as db:
        progress = read_session(db, find_session(db, session))
    if progress.status == "completed":
        raise UsageError(f"session {progress.id} is completed: all its runs are over, there is nothing to cancel")
    if is_ad_hoc(progress.id, progress.name):
        raise UsageError(
            f"SESSION: {progress.name} only gathers what was started outside a session, and others still start there: "
            "cancel its runs one by one, `ops cancel RUN`"
        )
    with writing(settings, application="cli") as db:
        cancel_session(db, progress.id)
    cancelled = _cancel_runs(settings, progress.id)
    if as_json:
        print_json({"id": progress.id, "name": progress.name, "status": "cancelled", "cancelled": cancelled})
        return
    named = f": {', '.join(short_id(run_id) for run_id in cancelled)}" if cancelled else ""
    say(f"Session {progress.id} is cancelled, and {len(cancelled)} of its runs with it{named}.")


def _cancel_runs(settings: Settings, session_id: UUID) -> list[UUID]:
    """Ask for the end of every run of the session, those included that Prefect has and `ops` has not seen yet."""
    from deployments.server import runs as prefect_server

    seen: set[UUID] = set()
    cancelled: list[UUID] = []
    by = f"cancelled by {account()} with `ops session cancel`"
    with prefect_server.connect(settings) as server:
        while left := [run for run in server.unfinished_of_session(session_id) if run not in seen]:
            for run_id in left:
                seen.add(run_id)
                with suppress(UsageError):  # it ended meanwhile
                    server.cancel(run_id, message=by)
                    cancelled.append(run_id)
    with writing(settings, application="cli") as db:
        for run_id in unfinished_deleted(db, session_id):
            if cancel_deleted(db, run_id=run_id, by=by):
                cancelled.append(run_id)
    return cancelled


def _table(sessions: Iterable[SessionProgress], now: datetime) -> Columns:
    table = Columns.of("session", "name", "by", "made", "status", "runs")
    for each in sessions:
        table.add(
            short_id(each.id),
            safe_line(each.name, width=60),
            each.triggered_by,
            moment(each.created_at, now),
            Text(each.status, style=STATUS_STYLE[each.status]),
            _counts(each),
        )
    return table


def _unfinished_starters(db: Connection, runs: Iterable[RunView]) -> list[RunView]:
    """The runs that started these and are not over: a night that waits to try again, though its backups are over."""
    names = {name for view in runs if (name := starter_of(view.origin))}
    if not names:
        return []
    return [view for view in list_runs(db, unfinished=True, limit=1000) if short_id(view.run.id) in names]


def _counts(progress: SessionProgress) -> str:
    """As in `3: 2 succeeded, 1 failed`."""
    counts = {name: getattr(progress, name) for name in ("unfinished", "succeeded", "failed", "cancelled")}
    return f"{progress.runs}: " * bool(progress.runs) + ", ".join(f"{n} {name}" for name, n in counts.items() if n)


def _now(db: Any) -> datetime:
    now: datetime = db.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return now
