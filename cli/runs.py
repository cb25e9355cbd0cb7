"""The commands about runs: run, runs, show, logs, cancel, retry, approve."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from cli.options import JsonOption, not_blank, storable
from cli.text import console, errors, print_json
from opsdb.errors import UsageError
from opsdb.runs.lookup import list_runs, reading
from opsdb.settings import load_settings
from opsdb.states import RunStatus
from opsdb.tables import Lane

E = TypeVar("E", bound=StrEnum)

LANES = "|".join(Lane)
STATUSES = "|".join(RunStatus)

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The run's id, at least 4 characters of its end or start that fit no other, or its name: the newest run.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands about runs."""
    for command in (run, runs, show, logs, cancel, retry, approve):
        app.command(rich_help_panel="Runs")(command)


def run(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="The runbook: `ops runbooks` lists them.", show_default=False)
    ],
    *,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--param",
            metavar="KEY=VALUE",
            help="A parameter; repeat for more. Lists: a,b,c or JSON. Objects: JSON. Nothing: null.",
        ),
    ] = None,
    lane: Annotated[str, typer.Option(metavar=LANES, help="The lane that it runs in.")] = "A",
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, help="Higher starts earlier: over 10, 1 to 10, 0, below 0.")
    ] = 0,
    session: Annotated[
        str | None, typer.Option(metavar="SESSION", help="Its session: an id, or a name, made if there is none.")
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

    Everything is checked first: when something is wrong, nothing is started.

    Example: ops run odoo_db_backup -p odoo_db=odoo_prod --wait

    Example: ops run odoo_db_backup -p odoo_db=odoo_prod -p retention_days=7 --lane B --priority 20 --session release

    Example: ops run odoo_db_backup -p odoo_db=odoo_prod --dry-run
    """
    from cli.run.start import start_run

    start_run(
        load_settings(),
        kind=kind,
        assignments=params or [],
        lane=_lane(lane),
        priority=priority,
        session=not_blank(session, what="--session"),
        idempotency_key=not_blank(idempotency_key, what="--idempotency-key"),
        wait=wait,
        dry_run=dry_run,
        as_json=as_json,
    )


def runs(
    *,
    lane: Annotated[str | None, typer.Option(metavar=LANES, help="Only this lane.")] = None,
    status: Annotated[str | None, typer.Option(metavar=STATUSES, help="Only this status.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only this runbook.")] = None,
    session: Annotated[str | None, typer.Option(metavar="NAME", help="Only this session, by name or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first.

    Example: ops runs --status failed --limit 5

    Example: ops runs --lane B --json
    """
    from cli.run.view import run_document, runs_table

    for text, what in ((kind, "--kind"), (session, "--session")):
        storable(text or "", what=what)
    wanted_lane = _lane(lane) if lane else None
    wanted_status = _one_of(RunStatus, status, "--status") if status else None
    with reading(load_settings()) as db:
        found = list_runs(db, lane=wanted_lane, status=wanted_status, kind=kind, session=session, limit=limit)
    if as_json:
        print_json([run_document(view) for view in found])
    elif found:
        console.print(runs_table(found, width=console.width))
        if len(found) == limit:
            errors.print(f"The newest {limit}; more with --limit.", style="dim")
    elif lane or status or kind or session:
        errors.print("No run fits. Try fewer filters: ops runs")
    else:
        errors.print("No runs yet. Start one: ops run KIND -p key=value --wait", markup=False)


def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show everything of one run: facts, how far it is, why it waits, steps, events, artifacts, states.

    Example: ops show 1f3a9c0b
    """
    from cli.run.show import show_run

    show_run(load_settings(), run=run, as_json=as_json)


def logs(
    run: RunArgument,
    step: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this step, by name or number, and nothing but its output.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run is over, and show how far a step is.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="This attempt.", show_default="the latest")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what the steps of a run wrote.

    The files are on the host of the worker that ran it.

    Example: ops logs 1f3a9c0b --follow

    Example: ops logs 1f3a9c0b --step pg_dump > pg_dump.log
    """
    from cli.run.logs import show_logs

    show_logs(load_settings(), run=run, step=step, attempt=attempt, follow=follow, as_json=as_json)


def cancel(
    run: RunArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over, at most 30 s.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Cancel a run: what waits never starts, what runs is killed with all its processes.

    Example: ops cancel 1f3a9c0b --wait
    """
    from cli.run.cancel import cancel_run

    cancel_run(load_settings(), run=run, wait=wait, as_json=as_json)


def retry(
    run: RunArgument,
    from_failed: Annotated[
        bool,
        typer.Option("--from-failed", help="Go on with the step that did not succeed; those before it stand."),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the steps as they go; exit with 1 if the run fails.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start another attempt of a run that failed or was cancelled: all of its steps, with the same parameters.

    With --from-failed it is refused where the runbook has changed since, where a step before must run again, and where
    another run did the same to the same thing meanwhile.

    Example: ops retry 1f3a9c0b --wait

    Example: ops retry 1f3a9c0b --from-failed
    """
    from cli.run.resume import retry_run

    retry_run(load_settings(), run=run, from_failed=from_failed, wait=wait, as_json=as_json)


def approve(run: RunArgument, as_json: JsonOption = False) -> None:
    """Let a run go on that waits for an approval. `ops show` tells what it asks, `ops cancel` ends it.

    Example: ops approve 1f3a9c0b
    """
    from cli.run.resume import approve_run

    approve_run(load_settings(), run=run, as_json=as_json)


def _lane(text: str) -> Lane:
    return _one_of(Lane, text.upper().removeprefix("LANE-"), "--lane")


def _one_of(choices: type[E], text: str, option: str) -> E:
    try:
        return choices(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is none of {', '.join(choices)}") from None
