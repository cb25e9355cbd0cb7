from __future__ import annotations

import io

from rich.console import Console, Group

from cli.run.result import lines, result_rows
from tests.unit.cli.runs_made_up import HOSTILE

BACKUP = {
    "pruned": [],
    "tables": 10,
    "sha256": "f" * 64,
    "created_at": "2026-11-23T20:06:32+01:00",
    "size_bytes": 1_252_934,
    "file": "/srv/" + "long/" * 40 + "a.dump",
    "duration_seconds": 71.2,
    "note": None,
}


def test_result_is_said_in_units_that_people_read() -> None:
    assert result_rows(BACKUP) == [
        ("file", BACKUP["file"]),
        ("size", "1.3 MB"),
        ("sha256", "f" * 64),
        ("created_at", "2026-11-23 19:06:32 UTC"),
        ("duration", "1 min 11 s"),
        ("pruned", "none"),
        ("tables", "10"),
    ]


def test_result_of_another_shape_is_said_as_it_is() -> None:
    assert result_rows(None) == []
    assert result_rows([1, {"a": True}]) == [("result", '[1, {"a": true}]')]
    assert result_rows({"size_bytes": True, "x_seconds": "soon", "at_at": "noon", "names": ["a", "b"]}) == [
        ("size_bytes", "true"),
        ("at_at", "noon"),
        ("names", "a, b"),
        ("x_seconds", "soon"),
    ]


def test_long_values_are_neither_cut_nor_broken_and_hostile_ones_are_harmless() -> None:
    console = Console(file=io.StringIO(), width=40)
    console.print(Group(lines(result_rows({**BACKUP, HOSTILE: HOSTILE}), indent="  ")), crop=False)
    assert isinstance(console.file, io.StringIO)
    page = console.file.getvalue()
    assert str(BACKUP["file"]) in page
    assert "[bold red]x[/]" in page
    assert not set("\x1b\x07\x00\u202e") & set(page)
