"""`ops stats`: how long runs usually take, how often they succeed, and why the last ones failed."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.columns import Columns
from cli.completion import complete_kinds
from cli.known_names import check_kind
from cli.options import JsonOption, storable
from cli.since import HELP, read_since
from cli.text import errors, lines, moment, print_json, safe_line, say, show
from opsdb.amounts import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsdb.runs.lookup import RunView
    from opsdb.runs.stats import Stats

LAST_FAILURES = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Runs")(stats)


def stats(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]", help="Only this runbook, by database.", show_default=False, autocompletion=complete_kinds
        ),
    ] = None,
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help=HELP)] = "30d",
    as_json: JsonOption = False,
) -> None:
    """Show how long runs usually take, how often they succeed, and why the last ones failed.

    Durations are of runs that succeeded, from start to end: half of them took at most the median, 95 of 100 at most
    p95. A cancelled run does not count as a failure.

    Example: ops stats odoo_module_upgrade

    Example: ops stats --since 90d --json
    """
    from opsdb.runs.lookup import list_runs, reading
    from opsdb.runs.stats import read_stats
    from opsdb.settings import load_settings
    from opsdb.states import RunStatus

    storable(kind or "", what="KIND")
    length = read_since(since)
    settings = load_settings()
    with reading(settings) as db:
        found = read_stats(db, since=length, kind=kind)
        failures = list_runs(db, kind=kind, status=RunStatus.FAILED, since=length, limit=LAST_FAILURES)
    if not found:
        check_kind(kind, settings, what="KIND")
    if as_json:
        print_json({"since": since, "stats": [_document(one) for one in found], "failures": _failures(failures)})
    elif not found:
        of = f" of {safe_line(kind)}" if kind else ""
        when = f"{'in the last' if isinstance(length, timedelta) else 'since'} {safe_line(since)}"
        say(f"No run{of} has ended {when}: try --since 365d, or `ops runs`", to=errors)
    elif kind is None:
        show(_table([one for one in found if one.in_all], first="kind"))
        say("Details of one: ops stats KIND")
    else:
        _print_kind(found, failures, since=since)


def _print_kind(found: Sequence[Stats], failures: Sequence[RunView], *, since: str) -> None:
    total, *parts = found
    rows = [
        ("kind", safe_line(total.kind)),
        ("since", safe_line(since)),
        ("runs", f"{total.runs}: {total.succeeded} succeeded, {total.failed} failed, {total.cancelled} cancelled"),
        ("success rate", _percent(total)),
        ("usually", seconds(total.median_seconds)),
        ("95 % within", seconds(total.p95_seconds)),
        ("longest", seconds(total.longest_seconds)),
    ]
    show(lines([row for row in rows if row[1]]))
    if any(one.about for one in parts):
        say("")
        show(_table(parts, first="database or host"))
    if failures:
        from cli.run.view import runs_table

        say("\nLast failures", style="bold")
        show(runs_table(failures, why=True))


def _table(found: Sequence[Stats], *, first: str) -> Columns:
    table = Columns.of(first, ">runs", ">failed", ">success", ">median", ">p95", ">longest?", "last run")
    now = datetime.now(UTC)
    for one in found:
        table.add(
            safe_line((one.kind if one.in_all else one.about) or "", width=60),
            str(one.runs),
            str(one.failed),
            _percent(one),
            seconds(one.median_seconds),
            seconds(one.p95_seconds),
            seconds(one.longest_seconds),
            moment(one.last_at, now),
        )
    return table


def _percent(one: Stats) -> str:
    return "" if one.success_rate is None else f"{100 * one.success_rate:.0f} %"


def _document(one: Stats) -> dict[str, Any]:
    return {**asdict(one), "success_rate": one.success_rate}


def _failures(failures: Sequence[RunView]) -> list[dict[str, Any]]:
    from cli.run.view import run_document

    return [run_document(view) for view in failures]
