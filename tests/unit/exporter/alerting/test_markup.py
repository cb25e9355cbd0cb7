"""What somebody else chose stays in its code span, and the same text without marks."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.alerting.markup import in_title, known, plain_text, quoted, show_addresses
from opsdb.alerts.report import Report, RunNow
from tests.support.reports import report, written

HOSTILE = [
    "@channel", "@all", "@here", "`@channel`", "``@all``", "` @here `", "```\n@channel\n```", "a`@channel", "@channel`",
    "`", "``", "`" * 100, "x" * 99 + "`@channel", "`" * 99 + "@channel", "\n@channel", "\r\n# @all", "\u2028@channel",
    "\u2029@here", "\x0b@all", "\x85@channel", "a\x00@all", "](http://x) @channel", "**@all**", "~~@here~~",
    "<!channel>", "<@U123>", "~town-square", ":rotating_light:", "![x](http://x/y.png)", "[x](javascript:alert(1))",
    "| a | b |\n|---|---|", "> @channel", "- @channel", "1. @all", "---", "\\`@channel\\`", "\\", "&#96;@channel",
    "\u202e@lennahc", "\u200b@channel", "\ufeff@all", "\ud800@all", "\U000e0001@all", "\x1b[31m@all", "", " ", "\t",
    "\x1e", "\x1c@all", "`\n`@channel`\n`", "` `@channel` `", "`````@all````", "@channel" * 50,
    "http://x/@channel", "mailto:@channel", "$@all$", "#hashtag", "🚨 **Stuck Run Detected**", "<b>@all</b>",
    "```mermaid\n@all```", "` ` ` @here",
]  # fmt: skip
AROUND = [
    ("`", "`"), ("`` ` ", " ` ``"), ("\n\n", "\n\n"), ("x\r", "\ry"), ("```", ""), ("", "```"), ("`\u2028`", ""),
    ("[", "](x)"), ("![", "]"), ("\\`", "\\`"), ("    ", ""), ("\\\\`", "`"), ("`" * 7, "`" * 6), ("~", "~"),
    ("||", "||"), ("<", ">"), ("&lt;", "&gt;"), ("'`", "`'"), ("`a`", "`b`"), ("``a`", "`b``"), ("\x00`", "`"),
    ("\ud83d`", "`"), ("\u0085", ""), ("`\r\n", "\r\n`"), ("```\n", "\n```"), ("* ", ""), ("> ", ""), ("# ", ""),
    ("`" * 50, "`" * 49), ("a" * 95, "`"), ("a" * 99, ""), ("`" + "a" * 97, "`"), ("[x]: ", ""), ("\t", ""),
    ("\u3000", "`"), ("\u00a0`", "`"), ("\u2800", ""), ("`\x1b[2J", "`"), ("\x7f", ""), ("\u061c", ""),
    ("\u2066", "\u2069"), ("`\u200d", "`"), ("\ufffe", ""), ("e\u0301`", "`"), ("\u1680", "`"), ("``", "`"),
    ("`" * 30, ""), ("", "`" * 30), ("- `", "`"),
]  # fmt: skip
HOSTILE += [f"{before}{name}{after}" for name in ("@channel", "@all", "@here") for before, after in AROUND]


def outside_code(text: str) -> str:
    """The text without its code spans, as CommonMark and Mattermost read them."""
    kept, position = [], 0
    while match := re.compile("`+").search(text, position):
        fence = match[0]
        closing = re.compile(rf"(?<!`){fence}(?!`)").search(text, match.end())
        kept.append(text[position : match.start()])
        if closing is None:
            kept.append(fence)
            position = match.end()
        else:
            position = closing.end()
    return "".join([*kept, text[position:]])


def report_of(name: str) -> Report:
    """A report in which all that somebody else chose is that name."""
    run = RunNow(name=name, status="failed", database=name, step=name, error=name)
    return report(count=10_000, kind=name, run=run, worker=name, session=name, statuses={"failed": 10_000})


def check_harmless(value: str) -> None:
    span = quoted(value)
    assert outside_code(span) == ""
    assert "\n" not in span
    assert len(span) <= 310
    if not known(value):
        return  # what is empty has no line
    text, plain = (written(report_of(name)).body for name in (value, "k"))
    assert outside_code(text) == outside_code(plain)
    assert len(text.splitlines()) == len(plain.splitlines())
    assert len(text) < 16_383


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_name_says_nothing_outside_its_code_span(value: str) -> None:
    check_harmless(value)


def test_hostile_names_are_200_and_more() -> None:
    assert len(set(HOSTILE)) >= 200


@settings(max_examples=200)
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("`@\n\\[]()* ")), max_size=200))
@example("`" * 300)
@example("\x1f")
def test_any_name_says_nothing_outside_its_code_span(value: str) -> None:
    check_harmless(value)


@pytest.mark.parametrize("value", HOSTILE)
def test_title_holds_nothing_that_a_destination_could_read_as_a_mark(value: str) -> None:
    shown = in_title(value)
    assert not set(shown) & set("`@*#[]<>~|!\\\n\r$&^={};/")
    assert len(shown) <= 100
    assert shown in written(report(run=RunNow(name=value, status="running"))).title or not value.strip()


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("`@\n\\[]()* ")), max_size=100))
def test_plain_text_keeps_what_stood_in_code_and_drops_our_marks(value: str) -> None:
    if not known(value):
        return
    text = plain_text(f"- Error: {quoted(value)}\n- [Open the run](https://x/1)\n**What to do:** `ops show 1`.")
    line = quoted(value).strip("`")
    assert text.endswith("\n- Open the run: https://x/1\nWhat to do: `ops show 1`.")
    assert text.startswith(f"- Error: {line}\n") or line.startswith("ops ")


def test_links_show_their_address_and_code_stays_as_it_is() -> None:
    text = "[Open the run](https://x/1) `[x](http://evil)`"
    assert show_addresses(text) == "[https://x/1](https://x/1) `[x](http://evil)`"
