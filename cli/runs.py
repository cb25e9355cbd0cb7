"""The commands that start runs and read of them: run, runs, show, logs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.completion import complete_kinds, complete_lanes, complete_sessions, complete_statuses
from cli.known_names import check_filters
from cli.options import (
    LANES,
    STATUSES,
    AboutOption,
    JsonOption,
    KindOption,
    LaneOption,
    OneRunArgument,
    RunArgument,
    lane_of,
    not_blank,
    one_of,
    storable,
)
from cli.since import HELP as SINCE_HELP
from cli.since import read_since
from cli.text import errors, print_json, say
from cli.text import show as show_table
from opsdb.errors import UsageError
from opsdb.states import RunStatus


def register(app: typer.Typer) -> None:
    """Add the commands about runs."""
    for command in (run, runs, show, logs):
        app.command(rich_help_panel="Runs")(command)


def run(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="The runbook: `ops runbooks` lists them.",
            show_default=False,
            autocompletion=complete_kinds,
        ),
    ],
    *,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--param",
            metavar="KEY=VALUE",
            help="A parameter; repeat for more. Lists: a,b,c or JSON. Objects: JSON. Empty text: KEY=",
        ),
    ] = None,
    lane: Annotated[str, typer.Option(metavar=LANES, help="The lane that it runs in.")] = "A",
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, help="Higher starts earlier: over 10, 1 to 10, 0, below 0.")
    ] = 0,
    session: Annotated[
        str | None, typer.Option(metavar="SESSION", help="Its session: an id, or a name; a new name makes a session.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Starting twice with the same key starts one run.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the steps as they go; exit with 1 if the run fails.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the steps and check whether it could succeed; start nothing; exit with 1 if it would fail.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a run of a runbook.

    The parameters are checked first: when one is wrong, or names a database that is nearly the name of one on the
    server, nothing is started. What else could stop the run, it checks before it changes anything, as --dry-run does.

    Example: ops run odoo_db_backup -p odoo_db=odoo_prod --wait

    Example: ops run odoo_db_backup -p odoo_db=odoo_prod -p retention_days=7 --lane B --priority 20 --session release

    Example: ops run odoo_db_backup -p odoo_db=odoo_prod --dry-run
    """
    from cli.run.start import start_run
    from opsdb.settings import load_settings

    start_run(
        load_settings(),
        kind=kind,
        assignments=params or [],
        lane=lane_of(lane),
        priority=priority,
        session=not_blank(session, what="--session"),
        idempotency_key=not_blank(idempotency_key, what="--idempotency-key"),
        wait=wait,
        dry_run=dry_run,
        as_json=as_json,
    )


def runs(
    *,
    lane: LaneOption = None,
    status: Annotated[
        str | None, typer.Option(metavar=STATUSES, help="Only this status.", autocompletion=complete_statuses)
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed: `--status failed`.")] = False,
    kind: KindOption = None,
    about: AboutOption = None,
    session: Annotated[
        str | None,
        typer.Option(metavar="SESSION", help="Only this session, by name or id.", autocompletion=complete_sessions),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help=SINCE_HELP)] = None,
    why: Annotated[
        bool,
        typer.Option("--why", help="Say why each failed, was cancelled, asks, or waits for a time of its own choice."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first.

    Example: ops runs --kind odoo_db_backup --failed --since 7d --why

    Example: ops runs --for odoo_prod --limit 5

    Example: ops runs --lane B --json
    """
    from cli.run.view import run_document, runs_table
    from opsdb.runs.lookup import list_runs, reading
    from opsdb.settings import load_settings

    for text, what in ((kind, "--kind"), (session, "--session"), (about, "--for")):
        storable(text or "", what=what)
    wanted_status = one_of(RunStatus, status, "--status") if status else None
    if failed:
        if wanted_status not in (None, RunStatus.FAILED):
            raise UsageError(f"--failed and --status {status} exclude each other")
        wanted_status = RunStatus.FAILED
    filters: dict[str, Any] = {
        "lane": lane_of(lane) if lane else None,
        "status": wanted_status,
        "kind": kind,
        "about": not_blank(about, what="--for"),
        "session": session,
        "since": read_since(since) if since is not None else None,
    }
    settings = load_settings()
    with reading(settings) as db:
        found = list_runs(db, **filters, limit=limit)
    if not found:
        check_filters(settings, kind=kind, session=session, about=about)
    if as_json:
        print_json([run_document(view) for view in found])
    elif found:
        show_table(runs_table(found, why=why))
        if len(found) == limit:
            say(f"The newest {limit}; more with --limit.", style="dim", to=errors)
    elif any(value is not None for value in filters.values()):
        say("No runs match these filters. Try fewer: ops runs", to=errors)
    else:
        say("No runs yet. Start one: ops run KIND -p key=value --wait", to=errors)


def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show everything of one run: facts, how far it is, why it waits, steps, events, artifacts, states.

    Example: ops show 1f3a9c0b
    """
    from cli.run.show import show_run
    from opsdb.settings import load_settings

    show_run(load_settings(), run=run, as_json=as_json)


def logs(
    run: OneRunArgument = None,
    *,
    lane: Annotated[
        str | None,
        typer.Option(
            metavar=LANES, help="All runs of this lane instead, each line by run.", autocompletion=complete_lanes
        ),
    ] = None,
    step: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this step, by name or number, and nothing but its output.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Follow the run until it is over, and show how far a step is; a lane, until Ctrl-C, with new runs.",
        ),
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="This attempt.", show_default="the latest")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what the steps of a run wrote, or what the runs of a lane write.

    The files are on the host of the worker that ran it.

    Example: ops logs 1f3a9c0b --follow

    Example: ops logs --lane B --follow

    Example: ops logs 1f3a9c0b --step pg_dump > pg_dump.log
    """
    from opsdb.settings import load_settings

    if lane is not None:
        from cli.run.lane_logs import follow_lane

        if run is not None or step is not None or attempt is not None or as_json:
            raise UsageError("--lane: leave out RUN, --step, --attempt and --json")
        follow_lane(load_settings(), lane_of(lane), follow=follow)
        return
    from cli.run.logs import show_logs

    if run is None:
        raise UsageError("give a RUN, or --lane for all runs of a lane")
    show_logs(load_settings(), run=run, step=step, attempt=attempt, follow=follow, as_json=as_json)
