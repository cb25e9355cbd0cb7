"""`ops run --dry-run`: the steps that a run would take, and whether it could start."""

from __future__ import annotations

from typing import Any

import typer
from rich.text import Text

from cli.text import LONGEST, console, print_json, safe_line, safe_text, say, show
from flows.engine.active_run import PlannedStep
from flows.engine.dry_run import DryRun, dry_run, load_runbook
from opsdb.kinds.kinds import entrypoint_of
from opsdb.settings import Settings
from opsdb.tables import Lane


def show_dry_run(settings: Settings, *, kind: str, lane: Lane, params: dict[str, Any], as_json: bool) -> None:
    """Print what a run would do, with these parameters, as this host sees it.

    Raises UsageError for a kind that is not registered here, and typer.Exit with 1 when the run would fail.
    """
    entrypoint = entrypoint_of(kind, settings)
    found = dry_run(load_runbook(entrypoint), params, settings=settings)
    if as_json:
        print_json(_document(found, kind=kind, lane=lane, params=params))
    else:
        _print(found, kind=kind, lane=lane)
    if found.error is not None:
        raise typer.Exit(1)


def _document(found: DryRun, *, kind: str, lane: Lane, params: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "lane": lane,
        "params": params,
        "steps": [
            {
                "index": step.index,
                "name": step.name,
                "command": step.command,
                "timeout_seconds": step.timeout_seconds or None,
                "environment": dict(step.environment),
                "executed": step.preflight,
            }
            for step in found.steps
        ],
        "warnings": found.warnings,
        "error": found.error,
    }


def _print(found: DryRun, *, kind: str, lane: Lane) -> None:
    console.print(Text(f"{safe_line(kind)} in lane {lane}: a dry run. Only preflights were executed, on this host."))
    for step in found.steps:
        say(f"{step.index} {safe_line(step.name)}{_timeout(step)}", style="bold")
        show(_what(step))
    for warning in found.warnings:
        console.print(Text(f"Warning: {safe_line(warning)}", style="yellow"))
    if found.error is None:
        console.print("It could start: nothing was found in its way.", style="green")
        return
    begins = any(not step.preflight for step in found.steps)
    said = "It would start, and as things are now it would fail: " if begins else "It would fail, and change nothing: "
    lines = [safe_line(line, width=LONGEST) for line in found.error.splitlines()]
    console.print(Text(said + "\n".join(lines), style="bold red"), soft_wrap=True)


def _timeout(step: PlannedStep) -> str:
    return f", at most {step.timeout_seconds:g} s" if step.timeout_seconds else ", executed" if step.preflight else ""


def _what(step: PlannedStep) -> Text:
    """Its command and environment, as they are: what would run is neither cut nor broken."""
    text = Text(no_wrap=True, overflow="ignore")
    for line in safe_text(step.command.rstrip()).splitlines():
        text.append(f"    {line}\n")
    for name, value in sorted(step.environment.items()):
        text.append(f"    {safe_line(f'{name}={value}', width=LONGEST)}\n", style="cyan")
    text.rstrip()
    return text
