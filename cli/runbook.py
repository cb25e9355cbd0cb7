"""The commands about the team's own runbooks in Python: a first file, and what is wrong with files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import JsonOption
from cli.text import errors, print_json, safe_line, say
from opsdb.settings import Settings, load_settings

if TYPE_CHECKING:
    from flows.own.catalogue import OwnRunbook


def register(app: typer.Typer) -> None:
    """Add the commands."""
    runbook = typer.Typer(help="The team's own runbooks in Python.", no_args_is_help=True)
    for name, command in (("new", new), ("check", check)):
        runbook.command(name)(command)
    app.add_typer(runbook, name="runbook", rich_help_panel="Runs")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the runbook is called.", show_default=False)],
    *,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Default: that of OPS_RUNBOOKS, or this one.", show_default=False),
    ] = None,
) -> None:
    """Write a runbook of two steps to begin with, and its test, which passes at once.

    Works without a room, and refuses a name that a runbook has, and files that exist.

    Example: ops runbook new disk_report --dir runbooks
    """
    from flows.own.draft import write_draft

    settings = load_settings()
    place = settings.runbooks if isinstance(settings.runbooks, Path) else Path()
    written = write_draft(name, (folder or place).absolute(), settings)
    for path in written:
        say(f"written: {path}")
    say(f"Test it: pytest {written[1]}")
    if settings.runbooks != written[0].parent:
        say(
            f'Have the room know it: runbooks = "{written[0].parent}" in ops.toml of OPS_HOME, and start the room again'
        )
    say(f"Deploy and run it: ops deploy, ops run {name} --wait")


def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILES]...", help="Default: all that OPS_RUNBOOKS and packages have."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Import files of runbooks and say what is wrong with them, or which runbooks they have, with what parameters.

    Works without a room. Ends with 2 when a file is invalid. Importing a file executes what stands in it.

    Example: ops runbook check runbooks/disk_report.py
    """
    from opsdb.kinds.runbook_files import RunbookFileError, runbook_files

    settings = load_settings()
    found = _examined([path.absolute() for path in files or []], settings)
    wrong = list(dict.fromkeys(one.error for one in found if one.error))
    if as_json:
        print_json([_document(one) for one in found])
    else:
        for one in found:
            if one.flow:
                parameters = ", ".join(param["name"] for param in _document(one)["params"]) or "no parameters"
                say(f"{one.kind}: {safe_line(str(one.path), width=500)}; {parameters}")
        if not files and not runbook_files(settings):
            errors.print("No own runbooks: OPS_RUNBOOKS is not set, and no installed package has any.", markup=False)
    if wrong and as_json:
        raise typer.Exit(2)
    if wrong:
        raise RunbookFileError("\n".join(wrong))


def _examined(paths: list[Path], settings: Settings) -> list[OwnRunbook]:
    from flows.own.catalogue import catalogue, examine
    from opsdb.kinds.runbook_files import read_whole, runbook_files

    if not paths:
        return catalogue(settings)
    known = {file.path: file for file in runbook_files(settings)}
    found = []
    for path in paths:
        # a file that lies elsewhere may be the next version of one that is known
        beside = list(known.values()) if path in known else []
        found += examine(known.get(path) or read_whole(path), beside, settings)
    return found


def _document(one: OwnRunbook) -> dict[str, Any]:
    """A runbook for programs."""
    from cli.run.params import described

    schema = one.flow.parameters.model_dump(exclude_unset=True) if one.flow else {}
    return {
        "kind": one.kind,
        "file": str(one.path),
        "valid": one.error is None,
        "error": one.error,
        "description": (one.flow.description or "") if one.flow else None,
        "params": described(schema, defaults={}),
    }
