"""What somebody else named cannot forge a line of ours, wherever it is shown."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from cli.run.view import error_lines
from cli.text import safe_line, say, value_text
from exporter.alerting.markup import quoted
from flows.backup.contents import summary
from opsdb.database import first_line
from opsdb.errors import OpsError, PreflightError, UsageError
from opsdb.shown import shown, shown_lines

FORGED = "run d167e5fd: succeeded"
HOSTILE = [
    f"a\n{FORGED}",
    f"a\r{FORGED}",
    f"a\r\n{FORGED}",
    f"a\v{FORGED}",
    f"a\x85{FORGED}",
    f"a\u2028{FORGED}",
    f"a\x1b[2K\x1b[1G{FORGED}",
    f"a\x9b1G{FORGED}",
    f"a\x1b]0;{FORGED}\x07",
    f"a\u202e{FORGED[::-1]}",
    f"a\b{FORGED}",
    f"a\0{FORGED}",
    f"a\u200b\u2066\ufeff\u00ad{FORGED}",
    f"[red]a[/] {FORGED}",
    f"a\ud800{FORGED}",
    f"a\n| \n{FORGED}",
]


def printed(line: str) -> str:
    said = io.StringIO()
    say(line, to=Console(file=said, force_terminal=True, color_system=None, width=80))
    return said.getvalue().removesuffix("\n")


def recorded(text: str) -> str:
    return "\n".join(error_lines({"type": "Preflight", "message": str(PreflightError(text))}))


PLACES = {
    "a name in a message": lambda name: f"there are: {shown(name)}",
    "a table's cell": lambda name: Text(safe_line(name)).plain,
    "a row of `ops show`": value_text,
    "an alert": quoted,
    "what a database said": lambda name: first_line(RuntimeError(f"database {name} is not there")),
    "what differs": lambda name: summary([f"table {name} is missing"]),
    "an error on the terminal": lambda name: printed(f"ops: {UsageError(f'no {name}')}"),
    "an error that was recorded": recorded,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", HOSTILE)
def test_name_forges_no_line_and_moves_no_cursor(place: str, name: str) -> None:
    text = PLACES[place](name)
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.strip().startswith(FORGED)
    text.encode()


@given(st.text())
def test_every_error_has_one_line_of_its_own_and_marks_the_others(text: str) -> None:
    first, *others = str(OpsError(f"x{text}")).split("\n")
    assert first.startswith("x")
    assert all(line.startswith("| ") for line in others)
    assert not any(character in line for line in [first, *others] for character in "\r\x1b\x85\u2028\u202e")
    assert shown_lines(str(OpsError(text))) == str(OpsError(text))  # an error that quotes an error


def test_names_are_shown_with_their_escapes_and_others_as_they_are() -> None:
    assert shown("a\nb\x1b\u202e") == r"a\nb\x1b\u202e"
    assert shown("Größe 10\u00a0% 日本 [x] \\") == "Größe 10\u00a0% 日本 [x] \\"
