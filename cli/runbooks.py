"""`ops runbooks`: what can be started, and with which parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from cli.columns import Columns
from cli.completion import complete_kinds
from cli.options import JsonOption, storable
from cli.run.params import default_text, described
from cli.text import console, errors, print_json, safe_line, safe_text, say, show
from opsdb.kinds.kinds import source_of
from opsdb.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Runs")(runbooks)


def runbooks(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="Show details of this runbook.",
            show_default=False,
            autocompletion=complete_kinds,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the runbooks that can be started, or show what one does and which parameters it takes.

    Example: ops runbooks

    Example: ops runbooks odoo_db_backup
    """
    from deployments.server import runs as prefect_server
    from deployments.server.startable import unknown_kind

    settings = load_settings()
    with prefect_server.connect(settings) as server:
        found = server.runbooks()
    if kind is not None and storable(kind, what="KIND") not in found:
        raise unknown_kind(kind, list(found))
    documents = [_document(found[name], settings) for name in sorted(found) if kind in (None, name)]
    if as_json:
        print_json(documents)
    elif not documents:
        errors.print("No runbooks are deployed: `ops deploy` deploys them.", markup=False)
    elif kind is None:
        show(_table(documents))
        say("Details of one: ops runbooks KIND")
    else:
        _print_runbook(documents[0])


def _document(lanes: dict[Any, Any], settings: Settings) -> dict[str, Any]:
    """A runbook for programs. What it takes is the same in all lanes, but for what a deployment itself sets."""
    first = lanes[min(lanes)]
    source = source_of(first.entrypoint, settings)
    return {
        "kind": first.kind,
        "source": str(source) if source else None,
        "lanes": sorted(lanes),
        "paused": sorted(lane for lane, one in lanes.items() if one.paused),
        "description": first.description,
        "params": described(first.schema, defaults=first.defaults),
    }


def _table(documents: list[dict[str, Any]]) -> Columns:
    table = Columns.of("runbook", "lanes", "from?", "what it does")
    for one in documents:
        does = one["description"].strip().partition("\n\n")[0]
        table.add(
            safe_line(one["kind"]),
            " ".join(one["lanes"]) + (f" (paused: {' '.join(one['paused'])})" if one["paused"] else ""),
            safe_line(Path(one["source"]).name if one["source"] else "?"),
            safe_line(" ".join(does.split())),
        )
    return table


def _print_runbook(one: dict[str, Any]) -> None:
    lanes = ", ".join(one["lanes"])
    say(f"{safe_line(one['kind'])}, in lane{'s' if len(one['lanes']) > 1 else ''} {lanes}")
    say(f"from {safe_line(one['source'], width=500)}" if one["source"] else "No file here has it any more.")
    if one["paused"]:
        paused = ", ".join(one["paused"])
        say(f"Paused in Prefect in {paused}: no schedule starts it there, `ops run` does. The Prefect UI resumes it.")
    _print_description(one["description"])
    table = Columns.of("parameter", "type", "default", "meaning")
    for param in one["params"]:
        default = "required" if param["required"] else default_text(param)
        cells = (param["name"], param["type"].replace("|", " or "), default, param["description"])
        table.add(*(safe_line(cell, width=500) for cell in cells))
    show(table)
    given = "".join(f" -p {param['name']}=..." for param in one["params"] if param["required"])
    say(f"\nStart it: ops run {safe_line(one['kind'] + given)} --wait")


def _print_description(text: str) -> None:
    """Show Markdown: its prose as wide as the terminal, its commands as they are typed, whole lines to be copied.

    In a pipe prose stays as it is written: it has no width there, and would be padded to one.
    """
    for number, part in enumerate(re.split(r"^```.*$", safe_text(text), flags=re.MULTILINE)):
        if not part.strip():
            continue
        say("")
        if number % 2:
            for line in part.strip("\n").splitlines():
                say(f"    {line}")
        elif console.is_terminal:
            console.print(Markdown(part, hyperlinks=False))
        else:
            say(part.strip().replace("**", ""))  # what stands out on a terminal
    say("")
