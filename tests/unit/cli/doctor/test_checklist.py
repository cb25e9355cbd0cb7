"""`ops doctor --checklist`: what decides a line, and how it looks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from blocks.check import Check
from cli.doctor import checklist, days
from cli.doctor.checks import Finding, run_checks
from opsdb.errors import RoomUnreachableError
from opsdb.settings import Settings


def finding(*checks: Check, room: Exception | None = None) -> Check:
    """What a line shows that finds these."""

    def look(_settings: Settings) -> Iterator[Check]:
        yield from checks
        if room is not None:
            raise room

    day = checklist.Day("Day 1", [checklist.Line("The line", look)])
    (found,) = run_checks(checklist.areas([day], Settings(home=Path("/nowhere"))), seconds=10)
    assert (found.area, found.check.subject) == ("Day 1", "The line")
    return found.check


def test_line_is_done_when_all_of_it_is_well() -> None:
    well = [Check("a", "one"), Check("b", "two"), Check("c", "three")]
    assert finding(*well).found == "one; two; three"
    assert finding(*well, Check("d", "four"), Check("e", "five")).found == "one; two; three; and 2 more"
    wrong = finding(*well, Check("d", "is missing", "make it"))
    assert (wrong.ok, wrong.found, wrong.advice) == (False, "d: is missing", "make it")


def test_line_that_cannot_be_looked_at_is_open_and_takes_no_other_with_it() -> None:
    away = finding(Check("a", "one"), room=RoomUnreachableError("the ops database does not answer"))
    assert not away.ok
    assert "while the room does not answer" in away.found
    assert "ops up" in away.advice


def test_every_open_line_shows_what_to_do_and_the_end_counts() -> None:
    lines = [("Day 1", Check("The host", "2 cores")), ("Day 2", Check("Workers", "none", "ops up --detach"))]
    findings = [Finding(area, check) for area, check in lines]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(checklist.checklist(findings))
    shown = console.export_text()
    assert [line.split() for line in shown.splitlines()] == [
        ["Day", "1"],
        ["✓", "The", "host:", "2", "cores"],
        ["Day", "2"],
        ["·", "Workers:", "none"],
        ["next:", "ops", "up", "--detach"],
        ["1", "of", "2", "lines", "are", "done"],
    ]
    assert checklist.as_document(findings)["done"] is False


def test_checklist_looks_the_same_in_a_narrow_terminal() -> None:
    path = "/srv/a/folder/whose/name/is/longer/than/the/terminal"
    findings = [
        Finding("Day 1", Check("Workers", "none of them has said anything for a while", "`ops up --detach`, and wait")),
        Finding("Day 1", Check("Backups", path, "look there")),
    ]
    console = Console(width=40, record=True, file=io.StringIO())
    console.print(checklist.checklist(findings), crop=False)
    assert [line.rstrip() for line in console.export_text().splitlines()] == [
        "Day 1",
        "·  Workers: none of them has said",
        "   anything for a while",
        "   next: `ops up --detach`, and wait",
        "·  Backups:",
        f"   {path}",
        "   next: look there",
        "0 of 2 lines are done",
    ]


def test_each_line_has_a_name_of_its_own() -> None:
    names = [line.what for day in days.DAYS for line in day.lines]
    assert len(names) == len(set(names))
    assert len(days.DAYS) == 5
