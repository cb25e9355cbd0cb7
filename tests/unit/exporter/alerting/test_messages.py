"""What alerts say, and that nobody else can say it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.alerting import messages
from exporter.alerting.messages import WORDINGS, known, outage_begins, quoted, render, trial
from opsdb.alerts.episodes import Rule
from opsdb.alerts.incidents import Event, Incident, Report, Subject

RUN = UUID("0195f0c2-7a1e-7cc3-9a54-3f1e2d4c5b6a")
NOW = datetime(2026, 11, 24, 3, 12, 5, tzinfo=UTC)
UI = "http://127.0.0.1:4200"


def report(
    rule: Rule = Rule.STUCK,
    *,
    event: Event = "firing",
    count: int = 1,
    kind: str = "odoo_db_backup",
    kinds: dict[str, int] | None = None,
    **facts: Any,
) -> Report:
    known: dict[str, Any] = {"worker": "ops-1-4711", "session": "Release 18.2", "silent_seconds": 30.4, "attempt": 1}
    subject = Subject(name="s", kind=kind, run_id=RUN, facts=known | facts, opened_at=NOW, resolved_at=None)
    incident = Incident(
        id=12,
        rule=rule,
        lane="B",
        opened_at=NOW,
        told_at=None,
        resolved_at=None,
        untold=count,
        silenced=False,
        now=NOW,
    )
    return Report(
        event=event,
        incident=incident,
        count=count,
        lasting=count,
        kinds=kinds or {kind: count},
        subjects=[subject] * min(count, 10),
    )


def test_stuck_alert_begins_as_the_seed_says() -> None:
    assert render(report(), ui_url=UI).splitlines()[:8] == [
        "🚨 **Stuck Run Detected**",
        f"- Run ID: `{RUN}`",
        "- Kind: `odoo_db_backup`",
        "- Worker: `ops-1-4711`",
        "- Lane: `B`",
        "- Session: `Release 18.2`",
        "- Seconds since the last heartbeat: 30",
        f"- [Open the run]({UI}/v2/runs/flow-run/{RUN})",
    ]


def test_every_alert_says_what_to_do_and_which_one_it_is() -> None:
    for rule in Rule:
        text = render(report(rule), ui_url=UI)
        assert "**What to do:** " in text
        assert "{" not in text
        assert text.endswith(f"Alert 12, {rule.severity}, lane B, since 2026-11-24 03:12:05 UTC")
    assert set(WORDINGS) == set(Rule)


def test_many_are_counted_by_kind_and_ten_are_shown() -> None:
    text = render(report(count=10_000, kinds={"a": 9_000, "b": 1_000}), ui_url=UI)
    assert text.startswith(f"🚨 **Stuck Run Detected**\n- Run ID: `{RUN}`\n- Kind: ")
    assert "**10,000 runs in lane B**: 9000 `a`, 1000 `b`" in text
    assert "- +9,990 more: [all runs](http://127.0.0.1:4200/v2/runs)" in text
    assert len(text) < 16_383


def test_end_says_what_became_of_the_run_and_nothing_to_do() -> None:
    text = render(report(event="resolved", became="queued", now_attempt=2), ui_url=UI)
    assert text.startswith("✅ **Resolved: Stuck Run Detected**")
    assert "- Became: `queued`, attempt 2" in text
    assert "What to do" not in text


FACTS: dict[str, Any] = {
    "attempt": 1, "now_attempt": 2, "worker": "ops-1-4711", "session": "Release 18.2", "silent_seconds": 30.4,
    "became": "failed", "deadline_at": "2026-11-24T03:00:00+00:00", "waiting_since": "2026-11-24T03:00:00+00:00",
    "until": "2026-11-24 04:00:00 UTC", "question": "upgrade sale in odoo_prod?", "answer": "approved by ana",
    "deployment": "nightly_backup/nightly-backup", "schedule": "nightly", "expression": "0 2 * * *", "error": "Timeout",
    "pids": [1, 2], "database": "odoo_prod", "verified_at": "2026-11-24T03:00:00+00:00", "last_error": "Timeout",
    "lanes": ["A", "B"], "heartbeat_at": "2026-11-24T03:00:00+00:00", "missing": "prefect", "forgotten_at": None,
}  # fmt: skip
UNKNOWN = st.sampled_from([None, "", " "])


def test_facts_are_all_that_messages_name() -> None:
    named = set(re.findall(r'facts(?:\.get\(|\[)"([a-z_]+)"', Path(messages.__file__).read_text()))
    assert named == {*FACTS, "heard_at"}


@given(
    rule=st.sampled_from(Rule),
    event=st.sampled_from(["firing", "repeat", "resolved"]),
    count=st.sampled_from([1, 3]),
    unknown=st.dictionaries(st.sampled_from([*FACTS]), UNKNOWN),
    absent=st.sets(st.sampled_from([*FACTS])),
    kind=st.sampled_from([None, "", "odoo_db_backup"]),
    of_run=st.booleans(),
)
@example(
    rule=Rule.APPROVAL,
    event="firing",
    count=1,
    unknown={"worker": None},
    absent=set(),
    kind="odoo_module_upgrade",
    of_run=True,
)
@settings(max_examples=500)
def test_no_message_names_what_is_not_known(
    *,
    rule: Rule,
    event: Event,
    count: int,
    unknown: dict[str, Any],
    absent: set[str],
    kind: str | None,
    of_run: bool,
) -> None:
    facts = {name: value for name, value in (FACTS | unknown).items() if name not in absent}
    given_ = report(Rule(rule), event=event, count=count, kinds={"a": count})
    subject = replace(given_.subjects[0], facts=facts, kind=kind, run_id=RUN if of_run else None)
    text = render(replace(given_, subjects=[subject] * count), ui_url=UI)
    assert not re.search(r"None|null|\[\]|\{|`-`|``|: *$", text, re.MULTILINE), text


def test_question_of_an_approval_says_how_to_answer_and_its_end_who_did() -> None:
    asked = report(Rule.APPROVAL, worker=None, silent_seconds=None, question="upgrade `sale` in odoo_prod @all?")
    text = render(asked, ui_url=UI)
    assert "- Question: `` upgrade `sale` in odoo_prod @all? ``" in text
    assert f"`ops approve {RUN.hex[-8:]}`, or Resume" in text
    assert "Worker" not in text
    answered = report(Rule.APPROVAL, event="resolved", question="upgrade?", answer="approved by ana", until="x")
    assert "- Answer: `approved by ana`" in render(answered, ui_url=UI)
    assert "wanted until" not in render(answered, ui_url=UI)


HOSTILE = [
    "@channel", "@all", "@here", "`@channel`", "``@all``", "` @here `", "```\n@channel\n```", "a`@channel", "@channel`",
    "`", "``", "`" * 100, "x" * 99 + "`@channel", "`" * 99 + "@channel", "\n@channel", "\r\n# @all", "\u2028@channel",
    "\u2029@here", "\x0b@all", "\x85@channel", "a\x00@all", "](http://x) @channel", "**@all**", "~~@here~~",
    "<!channel>", "<@U123>", "~town-square", ":rotating_light:", "![x](http://x/y.png)", "[x](javascript:alert(1))",
    "| a | b |\n|---|---|", "> @channel", "- @channel", "1. @all", "---", "\\`@channel\\`", "\\", "&#96;@channel",
    "\u202e@lennahc", "\u200b@channel", "\ufeff@all", "\ud800@all", "\U000e0001@all", "\x1b[31m@all", "", " ", "\t",
    "`\n`@channel`\n`", "` `@channel` `", "`````@all````", "@channel" * 50, "http://x/@channel", "mailto:@channel",
    "$@all$", "#hashtag", "🚨 **Stuck Run Detected**", "<b>@all</b>", "```mermaid\n@all```", "` ` ` @here",
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
    return report(count=10_000, kind=name, worker=name, session=name, error=name, became=name)


def check_harmless(value: str) -> None:
    span = quoted(value)
    assert outside_code(span) == ""
    assert "\n" not in span
    assert len(span) <= 310
    if not known(value):
        return  # what is empty has no line
    text, plain = (render(report_of(name), ui_url=UI) for name in (value, "k"))
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
def test_any_name_says_nothing_outside_its_code_span(value: str) -> None:
    check_harmless(value)


def test_messages_without_a_report_are_what_they_should_be() -> None:
    assert outage_begins(NOW).startswith("🚨 **The Ops Database Does Not Answer**\n- Since: 2026-11-24 03:12:05 UTC")
    assert "`mmosts-1234`" in trial("mmosts-1234")


def test_messages_in_the_document_are_real_ones() -> None:
    page = (Path(__file__).parents[4] / "docs" / "alerts.md").read_text()
    assert f"```text\n{render(report(), ui_url=UI)}\n```" in page
    assert f"```text\n{render(report(event='resolved', became='failed'), ui_url=UI)}\n```" in page
    facts: dict[str, Any] = {
        "worker": None,
        "silent_seconds": None,
        "question": "upgrade sale in odoo_prod to commit 3f2a91c0b7de?",
    }
    facts |= {"until": "2026-11-24 04:12:00 UTC"}
    asked = report(Rule.APPROVAL, kind="odoo_module_upgrade", **facts)
    assert f"```text\n{render(asked, ui_url=UI)}\n```" in page
    facts |= {"answer": "approved by ana with ops approve"}
    answered = report(Rule.APPROVAL, event="resolved", kind="odoo_module_upgrade", **facts)
    assert f"```text\n{render(answered, ui_url=UI)}\n```" in page
    assert [wording.title for wording in WORDINGS.values() if f"| {wording.title} |" not in page] == []


@pytest.mark.parametrize("event", ["firing", "repeat", "resolved"])
def test_alert_of_one_run_says_in_its_first_line_what_the_run_is_called(event: Event) -> None:
    told = report(event=event)
    told = replace(told, subjects=[replace(told.subjects[0], run_name="odoo_prod · backup")])
    first = render(told, ui_url=UI).splitlines()[0]
    assert "**: `odoo_prod · backup`" in first
    hostile = replace(told, subjects=[replace(told.subjects[0], run_name="a` @all\n**x**")])
    assert render(hostile, ui_url=UI).splitlines()[0].count("``") == 2


def test_list_of_runs_says_what_they_are_called() -> None:
    told = report(count=2)
    named = [replace(one, run_name=f"odoo_{number} · backup") for number, one in enumerate(told.subjects)]
    text = render(replace(told, subjects=named), ui_url=UI)
    assert "**: `" not in text.splitlines()[0]
    assert "`odoo_1 · backup`" in text
