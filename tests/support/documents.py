"""The documents of the repository, and what they say is there."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer

from cli.main import make_app
from cli.run.params import split_assignments
from flows.engine.dry_run import load_runbook
from opsdb.kinds.kinds import registered_entrypoints

ROOT = Path(__file__).parents[2]
PREFECT_YAML = ROOT / "prefect.yaml"


FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


INLINE = re.compile(r"`([^`\n]+)`")


def inline_codes(text: str) -> list[str]:
    return INLINE.findall(FENCE.sub("", text))


def shell_lines(text: str) -> Iterator[str]:
    """The lines of all `sh` blocks, joined where they end with a backslash, without comments."""
    for language, block in FENCE.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield line


def check_ops(arguments: list[str], *, complete: bool) -> None:
    """Let the command line's own parser read the arguments; nothing is executed."""
    command: Any = typer.main.get_command(make_app())
    context: Any = None
    words, name = arguments, "ops"
    while True:
        try:
            context = command.make_context(name, list(words), parent=context)
        except typer.Exit:  # an option that says all, as --version
            return
        except Exception as error:
            lacks = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError")
            if lacks and not complete:
                return
            raise AssertionError(f"ops {shlex.join(arguments)}: {error}") from error
        if not hasattr(command, "commands"):
            if name == "run":
                _check_parameters(context.params["kind"], context.params["params"] or [])
            return
        words = [*context._protected_args, *context.args]
        if not words and command.invoke_without_command:
            return
        name, command, words = command.resolve_command(context, words)


def _check_parameters(kind: str, assignments: list[str]) -> None:
    """The parameters of a registered runbook must be those that it takes; of others nothing is known here."""
    taken = _taken(kind)
    wrong = [name for name in split_assignments(assignments) if taken is not None and name not in taken]
    assert not wrong, f"ops run {kind}: it takes no -p {', '.join(wrong)}"


@cache
def _taken(kind: str) -> frozenset[str] | None:
    """The parameters of a registered runbook."""
    entrypoints = {entrypoint.rpartition(".")[2]: entrypoint for entrypoint in registered_entrypoints(PREFECT_YAML)}
    return frozenset(inspect.signature(load_runbook(entrypoints[kind]).fn).parameters) if kind in entrypoints else None
