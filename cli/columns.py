"""Rows of facts in columns, for a terminal of any width: no word is cut, and no command that is to be copied is broken.

Where a row has no room, columns that can be spared are left out, and named at the end; then the last column is wrapped
between words; then what does not fit is printed below its row, each fact with its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GAP = 2
NARROWEST = 24
"""The last column is wrapped where it has at least so much room."""
_UNIT = re.compile(r"\S*`[^`\n]*`\S*|\S+")
"""What a line is not broken in: a word, or a command between backticks."""


@dataclass(frozen=True)
class Column:
    """A column. An optional column is left out where there is no room; an empty one always is."""

    name: str
    right: bool = False
    spare: bool = False


@dataclass
class Columns:
    """Rows in columns. A cell is one line of text, with its style."""

    columns: Sequence[Column]
    header: bool = True
    rows: list[tuple[list[Text], str]] = field(default_factory=list)

    @classmethod
    def of(cls, *names: str, header: bool = True) -> Columns:
        """Columns by their names: `>name` stands to the right, `name?` can be spared."""
        return cls(
            [Column(name.strip(">?"), right=name.startswith(">"), spare=name.endswith("?")) for name in names],
            header=header,
        )

    def add(self, *cells: str | Text, style: str = "") -> None:
        """Add a row. Text from outside must be safe to show already."""
        self.rows.append(([cell if isinstance(cell, Text) else Text(cell) for cell in cells], style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(options.max_width)
        shown = self._shown(options.max_width)
        if spared := [column.name for at, column in enumerate(self.columns) if self._holds(at) and at not in shown]:
            yield Text(f"no room here for: {', '.join(spared)}", style="dim")

    def lines(self, width: int) -> Iterator[Text]:
        """The lines for a terminal of `width` columns. A line that holds a longer word is longer."""
        shown = self._shown(width)
        widths = {at: self._width(at) for at in shown}
        last = shown[-1]
        room = width - sum(widths[at] + GAP for at in shown[:-1])
        beside, below = shown, list[int]()
        if widths[last] > room:
            longest = self._longest_unit(last)
            if room >= NARROWEST and (longest <= room or longest > width - GAP):  # or it is too long everywhere
                widths[last] = room
            else:
                beside, below = self._split(shown, widths, width)
        if self.header:
            yield self._line([Text(self.columns[at].name, style="dim") for at in beside], beside, widths)
        for cells, style in self.rows:
            for line in self._row(cells, beside, below, widths, width):
                line.stylize_before(style)
                yield line

    def _shown(self, width: int) -> list[int]:
        """The columns that hold something, without those to spare where all have no room."""
        shown = [at for at in range(len(self.columns)) if self._holds(at)] or [0]
        for at in reversed(shown):
            total = sum(self._width(each) for each in shown) + GAP * (len(shown) - 1)
            if total > width and self.columns[at].spare:
                shown = [each for each in shown if each != at]
        return shown

    def _holds(self, at: int) -> bool:
        """Whether a column is not empty."""
        return any(cells[at].plain for cells, _ in self.rows)

    def _width(self, at: int) -> int:
        name = cell_len(self.columns[at].name) if self.header else 0
        return max([name, *(cell_len(cells[at].plain) for cells, _ in self.rows)])

    def _longest_unit(self, at: int) -> int:
        return max((cell_len(unit) for cells, _ in self.rows for unit in _UNIT.findall(cells[at].plain)), default=0)

    def _split(self, shown: list[int], widths: dict[int, int], width: int) -> tuple[list[int], list[int]]:
        """The columns that fit beside each other, and those that go below."""
        beside, used = [shown[0]], widths[shown[0]]
        for at in shown[1:]:
            used += GAP + widths[at]
            if used > width:
                break
            beside.append(at)
        return beside, shown[len(beside) :]

    def _row(
        self, cells: list[Text], beside: list[int], below: list[int], widths: dict[int, int], width: int
    ) -> Iterator[Text]:
        indent = sum(widths[at] + GAP for at in beside[:-1])
        last = beside[-1]
        wrapped = wrap(cells[last], widths[last]) if cell_len(cells[last].plain) > widths[last] else [cells[last]]
        yield self._line([*(cells[at] for at in beside[:-1]), wrapped[0]], beside, widths)
        for line in wrapped[1:]:
            yield _indented(line, indent)
        facts = [self._fact(at, cells[at]) for at in below if cells[at]]
        line = Text()
        for fact in facts:
            if line and GAP + cell_len(line.plain) + GAP + cell_len(fact.plain) > width:
                yield _indented(line)
                line = Text()
            if not line and GAP + cell_len(fact.plain) > width:
                yield from map(_indented, wrap(fact, width - GAP))
            else:
                line = Text("  ").join([line, fact]) if line else fact
        if line:
            yield _indented(line)

    def _fact(self, at: int, cell: Text) -> Text:
        """A cell with the name of its column, where that has one."""
        name = self.columns[at].name
        return Text(f"{name} ", style="dim").append_text(cell) if name else cell

    def _line(self, cells: list[Text], at: list[int], widths: dict[int, int]) -> Text:
        line = Text(no_wrap=True, overflow="ignore")
        for number, (cell, column) in enumerate(zip(cells, at, strict=True)):
            pad = " " * (widths[column] - cell_len(cell.plain))
            left, right = (pad, "") if self.columns[column].right else ("", pad)
            line.append(left).append_text(cell)
            if number < len(cells) - 1:
                line.append(right + " " * GAP)
        line.rstrip()
        return line


def wrap(text: Text, width: int) -> list[Text]:
    """The text in lines of at most `width` columns, broken between words; a longer word has a longer line.

    What stands between backticks is a command to be copied: it is on one line.
    """
    starts, begin = [0], None
    for unit in _UNIT.finditer(text.plain):
        if begin is not None and cell_len(text.plain[begin : unit.end()]) > width:
            starts.append(unit.start())
            begin = unit.start()
        begin = unit.start() if begin is None else begin
    found = []
    for line in text.divide(starts[1:]) if len(starts) > 1 else [text]:
        line.rstrip()
        line.no_wrap, line.overflow = True, "ignore"
        found.append(line)
    return found


def _indented(line: Text, columns: int = GAP) -> Text:
    return Text(" " * columns, no_wrap=True, overflow="ignore").append_text(line)
