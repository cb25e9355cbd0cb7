from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cli.harmless import harmless, harmless_line, harmless_output


@given(st.text())
def test_harmless_text_has_no_control_characters(text: str) -> None:
    for shown in (harmless(text), harmless_line(text), harmless_output(text)):
        assert not [c for c in shown if (ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0]
        shown.encode()


def test_output_loses_its_colours_and_keeps_its_lines() -> None:
    assert harmless_output("\x1b[1;31mred\x1b[0m\r\n10%\r20%\n\x1b]0;title\x07x\x1b[2Jy") == "red\n10%\n20%\nxy"


def test_an_unfinished_escape_sequence_is_shown_not_sent() -> None:
    assert "\x1b" not in harmless_output("\x1b[31")


def test_a_line_is_one_line_of_bounded_width() -> None:
    assert harmless_line("a\n b\tc") == "a b c"
    assert harmless_line("x" * 300, width=10) == "xxxxxxxxx…"
