"""The commands that change what becomes of a run, or of what it did: cancel, retry, rerun, approve, rollback."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.options import (
    AboutOption,
    JsonOption,
    KindOption,
    LaneOption,
    OneRunArgument,
    RunArgument,
    lane_of,
    not_blank,
    storable,
)
from opsdb.errors import UsageError

WaitOption = Annotated[bool, typer.Option("--wait", help="Show the steps as they go; exit with 1 if the run fails.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (cancel, retry, rerun, approve, rollback):
        app.command(rich_help_panel="Runs")(command)


def cancel(
    run: OneRunArgument = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that are not over, also those that wait.")] = False,
    kind: KindOption = None,
    lane: LaneOption = None,
    about: AboutOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --all: do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over, at most 30 s; --all does.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Cancel a run: what waits never starts, what runs is killed with all its processes.

    With --all every run that is not over, or those of a --kind, a --lane, or --for a database: also those that wait for
    an approval or for a time of their own, and what they start until they are over. It lists them and asks first;
    without a terminal, --yes is needed. What others and schedules start later is not touched: `ops schedule set NAME
    --pause` keeps a schedule from it.

    Example: ops cancel 1f3a9c0b --wait

    Example: ops cancel --all --lane B
    """
    from opsdb.settings import load_settings

    filters: dict[str, Any] = {
        "kind": storable(kind, what="--kind") if kind else None,
        "lane": lane_of(lane) if lane else None,
        "about": not_blank(storable(about, what="--for") if about else about, what="--for"),
    }
    if every:
        from cli.run.cancel_all import cancel_all

        if run is not None:
            raise UsageError(f"RUN and --all exclude each other: leave out {run!r} or --all")
        cancel_all(load_settings(), **filters, yes=yes, as_json=as_json)
        return
    from cli.run.cancel import cancel_run

    if run is None:
        raise UsageError("give one RUN, or --all for every run that is not over (with --kind, --lane, --for)")
    if yes:
        raise UsageError("--yes goes with --all: one run is cancelled without a question. Hint: leave it out")
    if any(filters.values()):
        raise UsageError("--kind, --lane and --for go with --all, and not with a RUN: leave one of them out")
    cancel_run(load_settings(), run=run, wait=wait, as_json=as_json)


def retry(
    run: RunArgument,
    from_failed: Annotated[
        bool,
        typer.Option("--from-failed", help="Keep the steps that succeeded, and start with the one that did not."),
    ] = False,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start another attempt of a run that failed or was cancelled: all of its steps, with the same parameters.

    With --from-failed it is refused where the runbook has changed since, where a step before must run again, and where
    another run did the same to the same thing meanwhile.

    Example: ops retry 1f3a9c0b --wait

    Example: ops retry 1f3a9c0b --from-failed
    """
    from cli.run.resume import retry_run
    from opsdb.settings import load_settings

    retry_run(load_settings(), run=run, from_failed=from_failed, wait=wait, as_json=as_json)


def rerun(run: RunArgument, wait: WaitOption = False, as_json: JsonOption = False) -> None:
    """Start a new run as this one was: same runbook, parameters, lane, priority and session.

    It takes any run, also one that succeeded. The new one has an id and a record of its own, and begins with the first
    step. `ops retry` makes another attempt of the same run instead, after it failed or was cancelled. Parameters are
    checked as the runbook takes them today; what it no longer takes, or newly needs, is named, and nothing is started.

    Example: ops rerun last:odoo_staging --wait
    """
    from cli.run.start import rerun_run
    from opsdb.settings import load_settings

    rerun_run(load_settings(), run=run, wait=wait, as_json=as_json)


def approve(run: RunArgument, as_json: JsonOption = False) -> None:
    """Approve a run that waits for an approval, so that it resumes. `ops show` shows its question, `ops cancel` ends
    it.

    Example: ops approve 1f3a9c0b
    """
    from cli.run.resume import approve_run
    from opsdb.settings import load_settings

    approve_run(load_settings(), run=run, as_json=as_json)


def rollback(
    run: RunArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take it back at once: ask for no approval.")] = False,
    wait: WaitOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the steps and the rows that were written since; start nothing; exit with 1 if it would fail.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take an upgrade back: restore the previous database, filestore and code, in a run of odoo_upgrade_rollback.

    The run counts what was written since, names it by table, and waits for `ops approve` before it changes anything.
    What is taken back stays on the server, under a name with the id of the upgrade, until you drop it. The same command
    finishes a rollback that was killed.

    Example: ops rollback last:odoo_module_upgrade --dry-run

    Example: ops rollback 1f3a9c0b --wait
    """
    from cli.run.rollback import rollback_run
    from opsdb.settings import load_settings

    rollback_run(load_settings(), run=run, yes=yes, wait=wait, dry_run=dry_run, as_json=as_json)
