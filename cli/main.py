"""The `ops` command: one file per noun, put together here. Of a known word only its file is imported."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from inspect import getdoc
from typing import Any

import typer

from cli.summaries import read_summaries
from cli.text import errors, safe_line, say
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.standard_streams import lost_output, make_unfailing

FILES = {
    "cli.room": ("up", "down", "status", "password"),
    "cli.doctor.doctor": ("doctor",),
    "cli.settings": ("settings",),
    "cli.runbooks": ("runbooks",),
    "cli.runs": ("run", "runs", "show", "logs"),
    "cli.run_control": ("cancel", "retry", "rerun", "approve", "rollback"),
    "cli.stats": ("stats",),
    "cli.board": ("board",),
    "cli.schedule": ("schedule",),
    "cli.session": ("session",),
    "cli.template": ("template",),
    "cli.runbook": ("runbook",),
    "cli.backups": ("backups",),
    "cli.alerts": ("alerts",),
    "cli.parts": ("worker", "sync", "exporter", "alerter"),
    "cli.deploy": ("deploy",),
    "cli.db": ("db",),
    "cli.hosting": ("render", "size", "cost"),
}
"""Where the words are that may follow `ops`, in the order of its help."""
os.environ.setdefault("DO_NOT_TRACK", "1")  # or Prefect, once it is imported, reports to its makers that it is used
OUTPUT_LOST = 4
"""The exit code of a command that did its work, while what it said could not be written."""


def make_app(word: str | None = None) -> typer.Typer:
    """The command line: all of it, or what the given word needs, which takes a third of the time to import."""
    app = _empty_app()
    for name in [file for file, words in FILES.items() if word in words] or FILES:
        import_module(name).register(app)
    _join_lines(app)
    return app


def make_summary() -> typer.Typer:
    """The command line as its help and its errors show it: the words alone, of which none can be run."""
    app = _empty_app()
    for one in read_summaries(FILES):
        app.command(one.word, help=one.text, rich_help_panel=one.panel)(lambda: None)
    _join_lines(app)
    return app


def _join_lines(app: typer.Typer) -> None:
    """Let the lines of all help end where the terminal does, and not where our source does."""
    for one in app.registered_commands:
        one.help = _joined(one.help or getdoc(one.callback) or "")
    for group in (one.typer_instance for one in app.registered_groups):
        if group is not None:
            group.info.help = _joined(str(group.info.help or ""))
            _join_lines(group)


def _joined(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _empty_app() -> typer.Typer:
    app = typer.Typer(
        name="ops",
        help="The Ops Control Room: runbooks in four lanes, with a complete record of every run.\n\n"
        "Start with [bold]ops up --demo[/], then [bold]ops runs[/].\n\n"
        "Exit codes: 0 done, 1 the run failed or was cancelled, 2 wrong usage, 3 the room is not reachable, "
        "4 done, but the output could not be written.",
        epilog="Settings are environment variables, or stand in .ops/ops.toml: [bold]ops settings --meanings[/].",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version
        from platform import python_version

        say(f"ops {version('ops-control-room')} (Prefect {version('prefect')}, Python {python_version()})")
        raise typer.Exit


def _options(
    *,
    version: bool = typer.Option(
        False, "--version", help="Show the version, and those of what it stands on.", callback=_version
    ),
) -> None:
    """Take what belongs to no command."""


def _completed_word() -> str | None:
    """The word after `ops` of a line that a shell completes; empty while that word itself is typed.

    None when no shell asks.
    """
    if "_OPS_COMPLETE" not in os.environ:
        return None
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    words = line.split()
    typing = len(words) < 2 or (len(words) == 2 and not line[-1:].isspace() and os.environ.get("COMP_CWORD") != "2")
    return "" if typing else words[1]


def main() -> None:
    """Run the command line. Errors are one line on stderr and an exit code, never a traceback."""
    gc.set_threshold(50_000)  # what is imported stays; looking through it for garbage took a sixth of a start
    make_unfailing()
    code = _run()
    if why := lost_output():
        _refuse(f"the output could not be written ({why}); the command itself did what it says")
        code = code or OUTPUT_LOST
    sys.exit(code)


def _run() -> int:
    """Run the command. Returns its exit code."""
    try:
        word = _completed_word()
        if word is None:
            word = sys.argv[1] if len(sys.argv) > 1 else None
        known = any(word in words for words in FILES.values())
        app = make_app(word) if known else make_summary()
        return int(app(prog_name="ops", standalone_mode=False) or 0)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OpsError as error:
        _refuse(str(error))
        return 3 if isinstance(error, RoomUnreachableError) else 2
    except typer.TyperException as error:  # wrong usage, as the parser sees it
        context: Any = getattr(error, "ctx", None)
        if message := safe_line(error.format_message(), width=500):  # none: it printed the help instead
            stop = "" if message.endswith((".", "?")) else "."
            _refuse(f"{message}{stop} See `{context.command_path if context else 'ops'} --help`")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130


def _refuse(message: str) -> None:
    say(f"ops: {message}", style="bold red", to=errors)
