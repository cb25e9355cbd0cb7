"""The documents of the repository, and what they say is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from cli.main import make_app

ROOT = Path(__file__).parents[2]


FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


INLINE = re.compile(r"`([^`\n]+)`")


def inline_codes(text: str) -> list[str]:
    return INLINE.findall(FENCE.sub("", text))


def check_ops(arguments: list[str], *, complete: bool) -> None:
    """Let the command line's own parser read the arguments; nothing is executed."""
    command: Any = typer.main.get_command(make_app())
    context: Any = None
    words, name = arguments, "ops"
    while True:
        try:
            context = command.make_context(name, list(words), parent=context)
        except Exception as error:
            lacks = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError")
            if lacks and not complete:
                return
            raise AssertionError(f"ops {shlex.join(arguments)}: {error}") from error
        if not hasattr(command, "commands"):
            return
        words = [*context._protected_args, *context.args]
        if not words and command.invoke_without_command:
            return
        name, command, words = command.resolve_command(context, words)
