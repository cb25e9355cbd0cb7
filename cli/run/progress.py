"""How far the running steps of a run are, as lines for people and documents for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from cli.text import safe_line, say
from opsdb.progress import Progress
from opsdb.tables import RunStep

AGAIN_SECONDS = 10.0
"""Between two lines, where none can be rewritten."""

_ERASE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


def progress_lines(steps: Iterable[RunStep]) -> list[str]:
    """One for each step of which it is known: `pg_dump  412.0 MB  63 % of about 654.0 MB  38.2 MB/s  6 s left`."""
    return [f"{safe_line(step.name, width=40)}  {Progress.of(step.progress)}" for step in steps if step.progress]


def progress_document(step: RunStep) -> dict[str, Any] | None:
    """What is known of one step, and what follows from it."""
    if not step.progress:
        return None
    progress = Progress.of(step.progress)
    return {**progress.columns, "percent": progress.percent, "seconds_left": progress.seconds_left}


class ProgressLine:
    """The last line of a terminal, written over each time; elsewhere a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._again_at = 0.0
        self._shown = ""

    def show(self, lines: Sequence[str], *, at: float) -> None:
        """Show what is known now, at a time in seconds by any clock."""
        if self._console.is_terminal:
            if (shown := "; ".join(lines)) != self._shown:
                self.clear()
                text = Text(shown, style="dim", no_wrap=True)
                text.truncate(self._console.width - 1, overflow="ellipsis")
                self._console.print(text, end="")
                self._shown = shown
        elif lines and at >= self._again_at:
            self._again_at = at + AGAIN_SECONDS
            for line in lines:
                say(line, to=self._console)

    def clear(self) -> None:
        """Make room for other output."""
        if self._shown:
            self._console.control(_ERASE)
            self._shown = ""
