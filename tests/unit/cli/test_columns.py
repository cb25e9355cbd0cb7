"""Columns at any width: nothing is lost, no word is cut, no command is broken."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from cli.columns import Columns, wrap

COMMAND = "`ops schedule set nightly-backup --at 03:30`"


def made() -> Columns:
    table = Columns.of("run", "kind", ">took", "worker?", "why")
    table.add("1a2b3c4d", "odoo_db_backup", "4.2 s", "host-17", f"the disk is full: free 3 GB, then {COMMAND} more")
    table.add("5e6f7a8b", "drill", "12.0 s", "host-2", "")
    return table


def drawn(table: Columns, width: int) -> list[str]:
    return [line.plain for line in table.lines(width)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 10_000])
def test_words_and_commands_are_whole_at_any_width(width: int) -> None:
    lines = drawn(made(), width)
    words = " ".join(lines).split()
    for word in f"1a2b3c4d odoo_db_backup 4.2 12.0 disk GB, {COMMAND} more".split():
        assert word in words
    assert any(COMMAND in line for line in lines)
    for line in lines:
        longest = max(len(unit) for unit in re.findall(r"`[^`]*`|\S+", line)) if line.strip() else 0
        assert len(line) <= max(width, longest + 40), line
    assert all(line == line.rstrip() for line in lines)


def test_wide_terminal_has_a_line_for_each_row() -> None:
    header, first, second = drawn(made(), 200)
    assert header.split() == ["run", "kind", "took", "worker", "why"]
    assert first.index("4.2 s") + len("4.2 s") == second.index("12.0 s") + len("12.0 s")


def test_column_to_spare_goes_first_and_the_last_one_is_wrapped_in_its_column() -> None:
    lines = drawn(made(), 82)
    assert "worker" not in lines[0]
    assert "host-17" not in " ".join(lines)
    assert lines[2].startswith(" " * lines[1].index("the disk"))


@pytest.mark.parametrize(("width", "said"), [(82, ["no room here for: worker"]), (200, [])])
def test_columns_that_were_left_out_are_named(width: int, said: list[str]) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(made(), crop=False)
    assert [line for line in console.export_text().splitlines() if line.startswith("no room")] == said


def test_word_that_is_longer_than_the_terminal_does_not_break_the_columns() -> None:
    table = Columns.of("", "", header=False)
    table.add("x", f"see {'/longer' * 10}")
    assert drawn(table, 40) == ["x  see", f"   {'/longer' * 10}"]


def test_what_has_no_room_stands_below_with_its_name() -> None:
    lines = drawn(made(), 30)
    assert lines[:2] == ["run       kind", "1a2b3c4d  odoo_db_backup"]
    assert lines[2] == "  took 4.2 s"
    assert lines[3].startswith("  why the disk")


def test_empty_column_is_left_out() -> None:
    table = Columns.of("a", "b")
    table.add("1", "")
    assert drawn(table, 80) == ["a", "1"]


def test_styles_stay_with_their_words() -> None:
    table = Columns.of("a", "b", header=False)
    table.add("x", Text.assemble("one two three ", ("four", "red"), " five six seven eight nine ten"))
    lines = list(table.lines(30))
    [styled] = [line for line in lines if line.spans]
    assert any(styled.plain[span.start : span.end] == "four" for span in styled.spans)


def test_wide_characters_count_as_two() -> None:
    assert [line.plain for line in wrap(Text("日本 日本 日本"), 9)] == ["日本 日本", "日本"]
