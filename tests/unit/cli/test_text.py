from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from cli.text import lines, result_rows, safe_line, safe_output, safe_text
from tests.support.runs_made_up import HOSTILE

BACKUP = {
    "pruned": [],
    "tables": 10,
    "sha256": "f" * 64,
    "created_at": "2026-11-23T20:06:32+01:00",
    "size_bytes": 1_252_934,
    "all_files_bytes": 1_300_000,
    "file": "/srv/" + "long/" * 40 + "a.dump",
    "duration_seconds": 71.2,
    "note": None,
}


@given(st.text())
def test_safe_text_has_no_control_characters(text: str) -> None:
    for shown in (safe_text(text), safe_line(text), safe_output(text)):
        assert not [c for c in shown if (ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0]
        shown.encode()


def test_output_loses_its_colours_and_keeps_its_lines() -> None:
    assert safe_output("\x1b[1;31mred\x1b[0m\r\n10%\r20%\n\x1b]0;title\x07x\x1b[2Jy") == "red\n10%\n20%\nxy"


def test_an_unfinished_escape_sequence_is_shown_not_sent() -> None:
    assert "\x1b" not in safe_output("\x1b[31")


def test_a_line_is_one_line_of_bounded_width() -> None:
    assert safe_line("a\n b\tc") == "a b c"
    assert safe_line("x" * 300, width=10) == "xxxxxxxxx…"


def test_result_is_said_in_units_that_people_read() -> None:
    assert result_rows(BACKUP) == [
        ("file", BACKUP["file"]),
        ("size of the dump", "1.3 MB"),
        ("size of all files", "1.3 MB"),
        ("sha256", "f" * 64),
        ("created at", "2026-11-23 19:06:32 UTC"),
        ("duration", "1 min 11 s"),
        ("pruned", "none"),
        ("tables", "10"),
    ]


def test_result_of_another_shape_is_said_as_it_is() -> None:
    assert result_rows(None) == []
    assert result_rows([1, {"a": True}]) == [("result", '[1, {"a": true}]')]
    assert result_rows({"size_bytes": True, "x_seconds": "soon", "at_at": "noon", "names": ["a", "b"]}) == [
        ("size of the dump", "true"),
        ("at at", "noon"),
        ("names", "a, b"),
        ("x", "soon"),
    ]


def test_result_with_parts_is_said_part_by_part() -> None:
    neutralised = {
        "rows_changed": {"waiting mail": 2, "scheduled jobs": 13},
        "refused": {},
        "left": {"waiting mail": 0, "scheduled jobs": 0, "keys": 0},
        "not_installed": ["letters", "mailings"],
        "files_removed": 1,
        "own_files": {"a.neutralize.sql": "ff"},
    }
    assert result_rows({"neutralised": neutralised, "target": {"url": "/b", "note": None, "kept": 1}}) == [
        ("made safe: rows changed", "waiting mail 2, scheduled jobs 13"),
        ("made safe: refused by the server", "none"),
        ("made safe: looked for afterwards", "0 of each of 3"),
        ("made safe: not in this Odoo", "letters, mailings"),
        ("made safe: files removed", "1"),
        ("made safe: own files", "a.neutralize.sql ff"),
        ("target", "url /b, note null, kept 1"),
    ]
    assert result_rows({"walls": ["no network"], "backups": {"odoo_prod": {"tries": 1}}}) == [
        ("backups: odoo_prod", "tries 1"),  # a database is called as it is
        ("isolated by", "no network"),
    ]
    assert result_rows({"left": {"a": 0, "b": 3, "c": 0}}) == [("left", "b 3; 2 others 0")]


def test_long_values_are_neither_cut_nor_broken_and_hostile_ones_are_safe() -> None:
    console = Console(file=io.StringIO(), width=40)
    console.print(Group(lines(result_rows({**BACKUP, HOSTILE: HOSTILE}), indent="  ")), crop=False)
    assert isinstance(console.file, io.StringIO)
    page = console.file.getvalue()
    assert str(BACKUP["file"]) in page
    assert "[bold red]x[/]" in page
    assert not set("\x1b\x07\x00\u202e") & set(page)
