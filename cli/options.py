"""What several commands take alike: the option for JSON, and checks of what was typed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from opsdb.errors import UsageError
from opsdb.settings import Settings

T = TypeVar("T", str, str | None)

DatabaseArgument = Annotated[str | None, typer.Argument(metavar="[DATABASE]", help="Only of this one.")]
FolderOption = Annotated[
    Path | None, typer.Option("--dir", metavar="FOLDER", help="The folder. Default: the room's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]


def folder_of_backups(named: Path | None, settings: Settings) -> Path:
    """The folder that was named, or the room's own. Raises UsageError for one that is not there."""
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
