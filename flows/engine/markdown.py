"""Text from outside in Markdown: it stays text, whoever chose it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from opsdb.shown import shown

_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@])")


def text(value: object) -> str:
    """The value on one line, with nothing that Markdown would take for more than text."""
    return _MARKUP.sub(r"\\\1", shown(str(value)))


def code(value: object) -> str:
    """The value as code on one line; in a table as well."""
    said = shown(str(value)).replace("|", "\u2502")  # a bar ends a cell, also within code
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", said)), default=0))
    blank = " " if said.startswith("`") or said.endswith("`") or not said.strip() else ""
    return f"{ticks}{blank}{said}{blank}{ticks}"


def block(lines: Iterable[str], language: str = "") -> str:
    """Lines as a block of code, which none of them can end."""
    said = [shown(line) for line in lines]
    fence = "`" * max(3, 1 + max((len(run) for line in said for run in re.findall("`+", line)), default=0))
    return "\n".join([f"{fence}{language}", *said, fence])


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns without a head; the cells are Markdown already."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
