"""The `ops` command: one file per noun, put together here."""

from __future__ import annotations

import sys
from typing import Any

import typer

from cli import alerts, backups, db, deploy, parts, room, runbooks, runs, schedule, session, template
from cli.doctor import doctor
from cli.text import errors, safe_line, say
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.settings import Settings


def _settings_list() -> str:
    """Every setting on a line, for the end of `ops --help`."""
    lines = []
    for name, field in Settings.model_fields.items():
        default: Any = field.default
        shown = "" if default in (None, ()) or name == "prefect_yaml" else f" [dim]\\[{default}][/]"
        lines.append(f"[bold]OPS_{name.upper()}[/]{shown}  {field.description}")
    return "\n\n".join(["Settings are environment variables:", *lines])


app = typer.Typer(
    name="ops",
    help="The Ops Control Room: runbooks in four lanes, with a record that does not lie.\n\n"
    "Start with [bold]ops up --demo[/], then [bold]ops runs[/].\n\n"
    "Exit codes: 0 done, 1 the run failed or was cancelled, 2 wrong usage, 3 the room is not reachable.",
    epilog=_settings_list(),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for part in (room, doctor, runbooks, runs, schedule, session, template, backups, alerts, parts, deploy, db):
    part.register(app)


def main() -> None:
    """Run the command line. Errors are one line on stderr and an exit code, never a traceback."""
    try:
        sys.exit(app(prog_name="ops", standalone_mode=False))
    except OpsError as error:
        _refuse(str(error))
        sys.exit(3 if isinstance(error, RoomUnreachableError) else 2)
    except typer.TyperException as error:  # wrong usage, as the parser sees it
        context: Any = getattr(error, "ctx", None)
        if message := safe_line(error.format_message(), width=500):  # none: it printed the help instead
            stop = "" if message.endswith((".", "?")) else "."
            _refuse(f"{message}{stop} See `{context.command_path if context else 'ops'} --help`")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)


def _refuse(message: str) -> None:
    say(f"ops: {message}", style="bold red", to=errors)
