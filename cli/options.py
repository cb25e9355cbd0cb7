"""What several commands take alike: the option for JSON, and checks of the text that was typed."""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer

from opsdb.errors import UsageError

T = TypeVar("T", str, str | None)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]


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
