"""What several commands take alike: runs, lanes, kinds and JSON, and checks of what was typed."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli.completion import complete_databases, complete_kinds, complete_lanes, complete_runs
from opsdb.errors import UsageError
from opsdb.near_names import did_you_mean
from opsdb.states import RunStatus

if TYPE_CHECKING:
    from opsdb.settings import Settings
    from opsdb.tables import Lane

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T", str, str | None)

LANES = "A|B|C|D"
STATUSES = "|".join(RunStatus)


def _run_argument(metavar: str) -> Any:
    return typer.Argument(
        metavar=metavar,
        help="The run's id, at least 4 characters of its end or start that fit no other, or its name, as in "
        '"odoo_prod · backup". `last` is the newest run, `last:NAME` the newest of that kind, database or host.',
        show_default=False,
        autocompletion=complete_runs,
    )


RunArgument = Annotated[str, _run_argument("RUN")]
OneRunArgument = Annotated[str | None, _run_argument("[RUN]")]
"""For commands that can also take several runs, by an option."""
LaneOption = Annotated[
    str | None, typer.Option("--lane", metavar=LANES, help="Only this lane.", autocompletion=complete_lanes)
]
KindOption = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="Only this runbook.", autocompletion=complete_kinds)
]
AboutOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="NAME",
        help="Only those about this database or host, whichever parameter names it.",
        autocompletion=complete_databases,
    ),
]

DatabaseArgument = Annotated[
    str | None,
    typer.Argument(metavar="[DATABASE]", help="Only this database.", autocompletion=complete_databases),
]
FolderOption = Annotated[
    Path | None, typer.Option("--dir", metavar="FOLDER", help="The folder. Default: the room's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]


def folder_of_backups(named: Path | None, settings: Settings) -> Path:
    """The folder that was named, or the room's own. Raises UsageError for a missing folder."""
    at = (named or settings.backups).absolute()
    if named is not None and not os.path.isdir(at):  # noqa: PTH112 - Path.is_dir raises where it may not look
        raise UsageError(f"--dir: there is no folder {at}: is its disk mounted?")
    return at


def storable(text: str, *, what: str) -> str:
    """The text itself. Raises UsageError when it holds what a database or a log refuses: NUL, lone surrogates."""
    if "\0" in text:
        raise UsageError(f"{what}: holds a NUL character, which nothing here can store")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what}: is not valid UTF-8") from None
    return text


def not_blank(text: T, *, what: str) -> T:
    """The text itself, or None where none was given. Raises UsageError when nothing stands in it."""
    if text is not None and not text.strip():
        raise UsageError(f"{what}: must not be empty")
    return text


def lane_of(text: str) -> Lane:
    """The lane that is named `b`, `B` or `lane-b`. Raises UsageError."""
    from opsdb.tables import Lane

    return one_of(Lane, text.upper().removeprefix("LANE-"), "--lane")


def one_of(choices: type[E], text: str, option: str) -> E:
    """The member that is spelled so. Raises UsageError that lists what can be chosen."""
    try:
        return choices(text)
    except ValueError:
        meant = did_you_mean(text, choices)
        raise UsageError(
            f"{option}: invalid value {text[:50]!r} (choose from {', '.join(choices)}){'.' * bool(meant)}{meant}"
        ) from None
