"""`ops render`, `ops size` and `ops cost`: what stands around the room, how large it is, and what it costs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.columns import Columns
from cli.options import JsonOption
from cli.text import errors, lines, print_json, safe_line, say, show
from opsdb.amounts import size as size_of
from opsdb.errors import UsageError
from opsdb.settings import load_settings

if TYPE_CHECKING:
    from deployments.hosting.template import Files, Template, Verdict

SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="The hosting file. Default: hosting.toml in OPS_HOME, if there."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (render, size, cost):
        app.command(rich_help_panel="Hosting")(command)


def render(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The template. Without it they are listed.")
    ] = None,
    *,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A value; of a list with commas between.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the files there. Default: print them.")
    ] = None,
    settings_file: SettingsOption = None,
    values: Annotated[bool, typer.Option("--values", help="List the values that the template takes.")] = False,
) -> None:
    """Render files for nginx, ufw, systemd and others, and have the real programs check them.

    The output says which program checked the files, or that it is not installed here. Files that a program refuses are
    not written.

    Example: ops render nginx --set server_url=https://ops.example.org --out /etc/nginx/sites-available
    """
    from deployments.hosting.registry import TABLES, TEMPLATES, find_template
    from deployments.hosting.template import check_folder, write_rendered
    from deployments.hosting.template import render as render_template
    from deployments.hosting.values_file import build_values, read_hosting_file

    if name is None:
        show(lines([(one.name, one.about) for one in TEMPLATES.values()]))
        return
    template = find_template(name)
    if values:
        _list_values(template)
        return
    if out is not None:
        check_folder(out)
    settings = load_settings()
    file = read_hosting_file(settings_file, settings, TABLES)
    built = build_values(template.values, name, file=file, assignments=assignments or [], settings=settings)
    files = render_template(template, built)
    refused = [verdict for verdict in (check(files) for check in template.checks) if _report(verdict)]
    if refused:
        programs = " and ".join(verdict.program for verdict in refused)
        raise UsageError(
            f"{name}: {programs} refused what was rendered, nothing was written. Hint: see its output above"
        )
    if out is None:
        _print(files)
    else:
        for path in write_rendered(template, files, out):
            say(f"written: {path}", to=errors)


def size(
    *,
    concurrent: Annotated[int | None, typer.Option("--concurrent", metavar="N", help="Runs at once, 1 to 400.")] = None,
    tier: Annotated[
        str | None, typer.Option("--tier", metavar="dev|small|medium|large", help="A row of the table.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the host that a number of concurrent runs needs: by the deployment guide, and by what was measured here.

    Without an option it is for the runs that the lanes of this room admit.

    Example: ops size --concurrent 12
    """
    from deployments.hosting.sizing import LANES, MOST_RUNS, TIERS, size_for

    if concurrent is not None and tier is not None:
        raise UsageError("--concurrent and --tier exclude each other. Hint: give one of them")
    if tier is not None and tier not in TIERS:
        raise UsageError(f"--tier: invalid value {tier!r} (choose from {', '.join(TIERS)})")
    runs = TIERS[tier].runs if tier else concurrent
    if runs is None:
        runs = load_settings().lane_limit * LANES
    if not 1 <= runs <= MOST_RUNS:
        raise UsageError(f"--concurrent {runs}: expected 1 to {MOST_RUNS}, four lanes of 100")
    found = size_for(runs)
    if as_json:
        print_json(asdict(found))
        return
    droplet, megabytes = found.tier, (found.worker_mb, found.sync_mb, found.others_mb)
    rows = [
        ("runs at once", f"{found.runs}: OPS_LANE_LIMIT={found.lane_limit}, so that four lanes admit {found.slots}"),
        ("by the guide", f"{found.workers} workers of 4 runs, {found.cores:g} cores, {found.gb:g} GB"),
        (
            "its table",
            f"{droplet.name}: {droplet.droplet}, {droplet.vcpus} CPUs, {droplet.gb:g} GB, "
            f"{droplet.usd} USD a month (2026-01)"
            if droplet
            else "ends at 40 runs: more than one host, or a larger one than it names",
        ),
        ("memory", f"{size_of(sum(megabytes) * 1e6)} in all, beside the system and what steps take:"),
        ("", f"{found.worker_mb:g} MB: one worker with {found.slots} runs that sleep, {found.worker_mb_known}"),
        ("", f"{found.sync_mb:g} MB: the sync, measured"),
        ("", f"{found.others_mb:g} MB: Prefect's server, PostgreSQL, supervisor, alerter and exporter, measured"),
        ("CPU", f"{found.cpu_seconds_per_run:g} s for each run, measured, beside what its steps do"),
    ]
    show(lines(rows))


def cost(*, settings_file: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Add up what the hosting costs a month, by the table `cost` of the hosting file, whose sums are checked.

    Without such a table, that of the deployment guide is shown, with its prices of 2026-01.

    Example: ops cost --settings hosting.toml
    """
    from deployments.hosting.cost import GUIDE, CostValues
    from deployments.hosting.registry import TABLES
    from deployments.hosting.values_file import build_values, read_hosting_file

    settings = load_settings()
    file = read_hosting_file(settings_file, settings, TABLES)
    if file is None or "cost" not in file.values:
        if settings_file:
            raise UsageError(f"--settings: {settings_file} has no table [cost]. Hint: copy it from {GUIDE}")
        missing = f"no table [cost] in {file.path}" if file else f"there is no {settings.home / 'hosting.toml'}"
        say(f"{missing}: these are the guide's prices, from {GUIDE}", to=errors)
        file = read_hosting_file(GUIDE, settings, TABLES)
    built = build_values(CostValues, "cost", file=file, assignments=[], settings=settings)
    if as_json:
        sums = {"sum": built.sum, "saved": built.saved, "saved_percent": built.saved_percent}
        print_json({**built.model_dump(mode="json"), **{name: str(value) for name, value in sums.items()}})
        return
    table = Columns.of("component", "service?", "size?", ">each", f">{built.currency} a month")
    for item in built.items:
        each = f"{item.count} x {item.each}" if item.count != 1 else str(item.each)
        table.add(safe_line(item.component), safe_line(item.service), safe_line(item.size), each, str(item.sum))
    table.add("total", "", "", "", str(built.sum), style="bold")
    show(table)
    if built.saved is not None:
        verb = "less" if built.saved >= 0 else "more"
        beside = safe_line(built.compared_with) or "what it is compared with"
        say(
            f"{abs(built.saved)} {built.currency} a month {verb} than {beside}, {built.compared_monthly}: "
            f"{abs(built.saved_percent or 0)} %"
        )


def _list_values(template: Template) -> None:
    """What the template takes, each with its default and what it is for."""
    rows = []
    for name, field in template.values.model_fields.items():
        default = "required" if field.is_required() else _default(field.default)
        rows.append((name, f"{field.description}{f' ({default})' if default else ''}"))
    show(lines(rows))


def _default(value: object) -> str:
    if value in (None, (), ""):
        return ""
    if isinstance(value, bool):
        return f"default {str(value).lower()}"
    return f"default {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def _report(verdict: Verdict) -> bool:
    """Say what a program said. Returns whether it refused the files."""
    from deployments.hosting.template import Outcome

    style = {Outcome.PASSED: "green", Outcome.REFUSED: "bold red", Outcome.ABSENT: "yellow"}[verdict.outcome]
    said = f": {verdict.said}" if verdict.said and verdict.outcome is not Outcome.PASSED else ""
    say(f"{verdict.program}: {verdict.outcome}{said}", style=style, to=errors)
    return verdict.outcome is Outcome.REFUSED


def _print(files: Files) -> None:
    """Print the files; where there are several, each after a line with its name."""
    for name, text in files.items():
        sys.stdout.write(f"# --- {name}\n{text}" if len(files) > 1 else text)
