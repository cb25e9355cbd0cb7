"""Text from outside in Markdown stays text."""

from __future__ import annotations

import pytest

from flows.engine.markdown import block, code, table, text


@pytest.mark.parametrize(
    ("said", "markdown"),
    [
        ("odoo_prod", r"odoo\_prod"),
        ("**bold** [link](http://x)", r"\*\*bold\*\* \[link\]\(http\:\/\/x\)".replace(r"\/", "/")),
        ("<img src=x>", r"\<img src=x\>"),
        ("a | b", r"a \| b"),
        ("# head\n- item", r"\# head\\n\- item"),
        ("\x1b[31m\u202e", r"\\x1b\[31m\\u202e"),
    ],
)
def test_text_is_no_markup(said: str, markdown: str) -> None:
    assert text(said) == markdown


@pytest.mark.parametrize(
    ("said", "markdown"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("`a", "`` `a ``"),
        ("", "`  `"),
        ("a|b", "`a\u2502b`"),
        ("a\nb", r"`a\nb`"),
    ],
)
def test_code_is_not_left(said: str, markdown: str) -> None:
    assert code(said) == markdown


def test_block_is_not_ended_by_its_lines() -> None:
    assert block(["```", "rm"], "sh").splitlines() == ["````sh", "```", "rm", "````"]


def test_table_has_a_line_for_each_row() -> None:
    assert table([("a", "b"), ("c", "d")]).splitlines()[2:] == ["| a | b |", "| c | d |"]
