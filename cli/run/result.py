"""What a run gave back, as lines for people: one `name  value` each, never cut and never broken."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from cli.amounts import seconds, size
from cli.harmless import harmless_line

FIRST = ("file", "size_bytes", "sha256")
"""What an operator looks for first. The database does not keep the order of a result's keys."""
LONGEST = 2000


def result_rows(result: Any) -> list[tuple[str, str]]:
    """Names and values, in units that people read: `size_bytes` becomes a size, `..._seconds` a duration."""
    if result is None:
        return []
    if not isinstance(result, Mapping):
        return [("result", value_text(result))]
    known = [name for name in FIRST if name in result]
    names = known + sorted(name for name in result if name not in known)
    return [_row(name, result[name]) for name in names if result[name] is not None]


def lines(rows: Iterable[tuple[str, str]], *, indent: str = "") -> Text:
    """The rows one below the other, the names in a column. A long value runs on: it can be copied in one piece."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    text = Text(no_wrap=True, overflow="ignore")
    for number, (name, value) in enumerate(rows):
        text.append(("\n" if number else "") + indent)
        text.append(f"{name:<{width}}  ", style="dim")
        text.append(value)
    return text


def value_text(value: Any) -> str:
    """A value on one line: text as it is, everything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return harmless_line(text, width=LONGEST)


def _row(name: str, value: Any) -> tuple[str, str]:
    label = harmless_line(name, width=40)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and name.endswith("_bytes"):
        return label.removesuffix("_bytes"), size(int(value))
    if number and name.endswith("_seconds"):
        return label.removesuffix("_seconds"), seconds(float(value))
    if isinstance(value, str) and name.endswith("_at"):
        return label, _time(value)
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return label, ", ".join(value_text(item) for item in value) or "none"
    return label, value_text(value)


def _time(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return value_text(text)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at.tzinfo else value_text(text)
