"""How commands speak: text made safe to show, times, rows and colour, JSON for programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.text import Text

from flows.shell.escapes import ANSI
from opsdb.amounts import seconds, size
from opsdb.shown import shown

_RUN_SUBJECT = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{4}([0-9a-f]{8})(?:/\d+)?")
UNBROKEN = 10_000
"""The width where the output is not a terminal: a line in a file or a pipe is as long as it is."""


class Output(Console):
    """Where commands speak to: as wide as the terminal or COLUMNS, and of any width in a file or a pipe."""

    @property  # type: ignore[misc]  # rich's can be set, which nobody does here
    def size(self) -> ConsoleDimensions:
        """Its columns and lines."""
        found = super().size
        wide = not self.is_terminal and not os.environ.get("COLUMNS", "").isdigit()
        return ConsoleDimensions(UNBROKEN, found.height) if wide else found


console = Output(highlight=False)
errors = Output(stderr=True, highlight=False)

STATUS_STYLE = {
    "queued": "dim",
    "claimed": "cyan",
    "running": "blue",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
}
FIRST = ("file", "size_bytes", "all_files_bytes", "sha256")
"""What an operator looks for first in a result. The database does not keep the order of its keys."""
_LABELS = {
    "all_files_bytes": "size of all files",
    "left_out": "not tried in the restore",
    "neutralised": "made safe",
    "neutralised: files_removed": "files removed",
    "neutralised: left": "looked for afterwards",
    "neutralised: not_installed": "not in this Odoo",
    "neutralised: own_files": "own files",
    "neutralised: refused": "refused by the server",
    "neutralised: rows_changed": "rows changed",
    "proven_on": "restored on PostgreSQL",
    "size_bytes": "size of the dump",
    "walls": "isolated by",
}
"""What the names in a result are called where `result_rows` does not simply say their words."""
LONGEST = 2000

_SHOWN = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
_SHOWN |= {0x7F: "\N{SYMBOL FOR DELETE}"}
_SHOWN |= dict.fromkeys(
    [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C],
    "\N{REPLACEMENT CHARACTER}",  # C1 controls and what changes the direction of writing
)
_SHOWN |= dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


def say(line: str, *, style: str | None = None, to: Console = console) -> None:
    """Print a line for people, safe to show: its brackets are not markup, and no width breaks it."""
    to.print(safe_text(line), style=style, markup=False, soft_wrap=True)


def show(renderable: RenderableType, *, to: Console = console) -> None:
    """Print columns, rows or text that keep their own width: what is longer than the terminal is not cut."""
    to.print(renderable, crop=False)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; times in ISO 8601 with their zone."""
    json.dump(value, sys.stdout, indent=2, default=_plain, ensure_ascii=False)
    sys.stdout.write("\n")


def own_name() -> str:
    """How this command is typed here: `ops` where PATH leads to it, else its path."""
    script = Path(sys.executable).parent / "ops"
    found = shutil.which("ops")
    if found is not None and Path(found).absolute() == script:
        return "ops"
    if not os.access(script, os.X_OK):
        return "python -m cli"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def safe_text(text: str) -> str:
    """Text from outside that cannot move the cursor, colour the screen or reorder a line.

    Every control character but tab and newline becomes a sign for it.
    """
    return text.translate(_SHOWN)


def safe_line(text: str, *, width: int = 200) -> str:
    """The text, safe to show, on one line of at most `width` characters."""
    line = shown(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def safe_output(text: str) -> str:
    """A program's output: without its colours and cursor movements, a bare carriage return as a new line."""
    return safe_text(ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def alert_subject(text: str) -> str:
    """What an alert is about, on one line: a run, which alerts name by its full id and attempt, by its short id."""
    found = _RUN_SUBJECT.fullmatch(text)
    return f"run {found[1]}" if found else safe_line(text)


def moment(at: datetime | None, now: datetime) -> str:
    """A time in UTC: without the date when it is of the last 12 hours."""
    if at is None:
        return ""
    return f"{at:%H:%M:%S}" if timedelta(0) <= now - at < timedelta(hours=12) else f"{at:%Y-%m-%d %H:%M}"


def clock(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else ""


def lines(rows: Iterable[tuple[str, str]], *, indent: str = "") -> Text:
    """Rows of name and value one below the other. A long value is neither cut nor broken: it can be copied whole."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    text = Text(no_wrap=True, overflow="ignore")
    for number, (name, value) in enumerate(rows):
        text.append(("\n" if number else "") + indent)
        text.append(f"{name:<{width}}  ", style="dim")
        text.append(value)
    return text


def result_rows(result: Any) -> list[tuple[str, str]]:
    """What a run gave back, in words and units that people read: `..._bytes` is a size, `..._seconds` a duration."""
    if result is None:
        return []
    if not isinstance(result, Mapping):
        return [("result", value_text(result))]
    known = [name for name in FIRST if name in result]
    names = known + sorted(name for name in result if name not in known)
    return [row for name in names if result[name] is not None for row in _rows(name, result[name])]


def value_text(value: Any) -> str:
    """A value on one line: text as it is, everything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return safe_line(text, width=LONGEST)


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    """One row, or one for each part of what holds counts, texts and lists by their names."""
    if not isinstance(value, Mapping) or not any(isinstance(part, Mapping | list) for part in value.values()):
        return [(_LABELS.get(name) or _words(name), _said(name, value))]
    # the names of parts may be data, such as databases: they are shown as they are
    parts = [(_LABELS.get(f"{name}: {key}") or safe_line(key, width=40), key, part) for key, part in value.items()]
    label = _LABELS.get(name) or _words(name)
    return [(f"{label}: {part_label}", _said(key, part)) for part_label, key, part in parts if part is not None]


def _words(name: str) -> str:
    """The name of a value without its unit, as words."""
    return safe_line(name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " "), width=40)


def _by_name(values: Mapping[str, Any]) -> str:
    """Some values with their names; of counts, how many of them are 0."""
    zeros = [name for name, value in values.items() if value == 0 and not isinstance(value, bool)]
    if len(zeros) > 1:
        rest = {name: value for name, value in values.items() if name not in zeros}
        return f"{_by_name(rest)}; {len(zeros)} others 0" if rest else f"0 of each of {len(zeros)}"
    return ", ".join(f"{safe_line(name)} {value_text(value)}" for name, value in values.items()) or "none"


def _said(name: str, value: Any) -> str:
    """A value in the unit that its name says."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and name.endswith("_bytes"):
        return size(int(value))
    if number and name.endswith("_seconds"):
        return seconds(float(value))
    if isinstance(value, str) and name.endswith("_at"):
        return _time(value)
    if isinstance(value, Mapping) and not any(isinstance(part, Mapping | list) for part in value.values()):
        return _by_name(value)
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(value_text(item) for item in value) or "none"
    return value_text(value)


def _time(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return value_text(text)
    return clock(at) if at.tzinfo else value_text(text)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
