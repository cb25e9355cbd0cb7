"""`ops doctor --checklist`: the way from an empty host to a room in production, each line with what proves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Group, RenderableType
from rich.text import Text

from blocks.check import Check
from cli.columns import Columns
from cli.doctor.checks import Area, Finding
from opsdb.errors import OpsError, RoomUnreachableError
from opsdb.settings import Settings

MOST_FOUND = 3
"""How many findings of a line are shown as its evidence."""
Look = Callable[[Settings], Iterable[Check]]
"""What looks at one line: one check, or several of which the first with a problem decides."""


@dataclass(frozen=True)
class Line:
    """One line of the checklist: what is to be done, and what looks whether it is."""

    what: str
    look: Look


@dataclass(frozen=True)
class Day:
    """The lines of a day."""

    title: str
    lines: Sequence[Line]


def areas(days: Sequence[Day], settings: Settings) -> list[Area]:
    """All lines, each as an area of the doctor named by its day: one that breaks takes no other with it."""
    return [Area(day.title, partial(_checked, line, settings)) for day in days for line in day.lines]


def as_document(findings: Sequence[Finding]) -> dict[str, object]:
    """The checklist as JSON."""
    lines = [
        {"day": one.area, "what": one.check.subject, "done": one.check.ok}
        | {"evidence": one.check.found, "next": one.check.advice}
        for one in findings
    ]
    return {"done": all(one.check.ok for one in findings), "lines": lines}


def checklist(findings: Sequence[Finding]) -> Group:
    """The checklist for a terminal: each day with its lines; below one that is open, what to do next."""
    shown: list[RenderableType] = []
    for day in dict.fromkeys(one.area for one in findings):
        shown.append(Text(day, style="bold"))
        table = Columns.of("", "", header=False)
        for one in (each for each in findings if each.area == day):
            check = one.check
            found = f"{check.subject}: {check.found}" if check.found else check.subject
            table.add("✓" if check.ok else "·", found, style="green" if check.ok else "")
            if not check.ok:
                table.add("", f"next: {check.advice}", style="yellow")
        shown.append(table)
    counts = Counter(one.check.ok for one in findings)
    said = f"{counts[True]} of {len(findings)} lines are done"
    return Group(*shown, Text(said, style="bold" if counts[False] else "bold green"))


def _checked(line: Line, settings: Settings) -> Iterable[Check]:
    """What the checks of a line found together, under the line's own name."""
    try:
        seen = list(line.look(settings))
    except RoomUnreachableError:
        seen = [Check("", "cannot be seen while the room does not answer", "`ops up --detach`; `ops doctor` says more")]
    except OpsError as error:
        seen = [Check("", str(error), "correct what the line names")]
    wrong = next((one for one in seen if not one.ok), None)
    if wrong is not None:
        yield Check(line.what, f"{wrong.subject}: {wrong.found}".removeprefix(": "), wrong.advice)
    else:
        found = list(dict.fromkeys(one.found for one in seen))
        rest = len(found) - MOST_FOUND
        more = f"; and {rest} more" if rest > 0 else ""
        yield Check(line.what, "; ".join(found[:MOST_FOUND]) + more)
