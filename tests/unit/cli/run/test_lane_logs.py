"""The whole lines of a file that grows."""

from __future__ import annotations

from pathlib import Path

from cli.run.lane_logs import EARLIER_BYTES, LONGEST_LINE, _Lines
from cli.run.step_logs import StepLog
from tests.support.runs_made_up import details


def lines_of(path: Path, *, only_end: bool = False) -> _Lines:
    return _Lines(StepLog(step=details().steps[0], path=path), only_end=only_end)


def test_lines_come_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = lines_of(path)
    assert list(lines.new(over=False)) == []
    path.write_text("one\ntw")
    assert list(lines.new(over=False)) == ["one"]
    with path.open("a") as file:
        file.write("o\n\nthree")
    assert list(lines.new(over=False)) == ["two", ""]
    assert list(lines.new(over=True)) == ["three"]
    assert list(lines.new(over=True)) == []


def test_of_what_was_written_before_only_the_end_is_shown_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(10_000)))
    shown = list(lines_of(path, only_end=True).new(over=False))
    assert shown[-1] == "line 9999"
    assert shown[0] == f"line {10_000 - len(shown)}"
    assert len("\n".join(shown)) < EARLIER_BYTES


def test_terminal_escapes_and_endless_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b]0;title\x07\x1b[31mred\x1b[0m \xff\nbar 1\rbar 2\r\n")
    assert list(lines_of(path).new(over=False)) == ["red \N{REPLACEMENT CHARACTER}", "bar 1", "bar 2"]
    path.write_bytes(b"x" * (3 * LONGEST_LINE))
    assert sum(map(len, lines_of(path).new(over=False))) > LONGEST_LINE
