"""What alerts say, and that nobody else can say it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.alerting import messages
from exporter.alerting.links import Links
from exporter.alerting.messages import outage_begins, outage_ends, trial
from exporter.alerting.wordings import WORDINGS
from opsdb.alerts.episodes import Rule
from opsdb.alerts.outbox import Level
from opsdb.alerts.report import Event, Report, RunNow
from opsdb.states import RunStatus
from tests.support.reports import NEXT, NOW, RUN, UI, failed, report, written


def body(told: Report) -> str:
    return written(told).body


def body_with(told: Report, *, outlook: str) -> str:
    return written(told, outlook=outlook).body


def test_stuck_alert_begins_as_the_seed_says() -> None:
    assert body(report()).splitlines()[:8] == [
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
        text = body(report(rule))
        assert "**What to do:** " in text
        assert "{" not in text
        sign = (
            f"Alert 12, {rule.severity}, lane B, since 2026-11-24 03:12:05 UTC. `ops alerts ack 12` ends its reminders."
        )
        assert text.endswith(f"\n\n{sign}")
    assert set(WORDINGS) == set(Rule)


def test_many_are_counted_by_kind_and_ten_are_shown() -> None:
    told = replace(report(count=10_000, kinds={"a": 9_000, "b": 1_000}), databases=[f"odoo_{n}" for n in range(20)])
    text = body(told)
    named = "`odoo_0`, `odoo_1`, `odoo_2`, `odoo_3`, `odoo_4`, and more"
    assert text.startswith(f"🚨 **Stuck Run Detected**: 10,000 runs in lane B, {named}\n- Run ID: `{RUN}`\n- Kind: ")
    assert f"; databases {named}\n\n- `odoo_db_backup` on `ops-1-4711` [2d4c5b6a](" in text
    assert "**10,000 runs in lane B**: 9000 `a`, 1000 `b`" in text
    assert "- +9,990 more: [all runs](https://ops.example.org/v2/runs)" in text
    assert len(text) < 16_383


ENDS = [
    ({"status": "succeeded", "attempt": 2}, Level.SUCCESS, "✅ **Resolved: Stuck Run Detected**"),
    ({"status": "failed"}, Level.CRITICAL, "🚨 **Ended In Failure: Stuck Run Detected**"),
    ({"status": "cancelled"}, Level.INFO, "⚪ **Over: Stuck Run Detected**"),
    ({"status": "deleted"}, Level.INFO, "⚪ **Over: Stuck Run Detected**"),
]


@pytest.mark.promise(15)
@pytest.mark.parametrize(("run", "level", "head"), ENDS)
def test_end_is_green_only_for_a_run_that_succeeded(run: dict[str, Any], level: Level, head: str) -> None:
    told = written(report(event="resolved", run=RunNow(name=None, **run)), outlook=NEXT)
    assert (told.level, told.body.splitlines()[0]) == (level, head)
    attempt = f", attempt {run['attempt']}" if "attempt" in run else ""
    assert f"- Became: `{run['status']}`{attempt}" in told.body
    assert ("What to do" in told.body) is (run["status"] == "failed")


@pytest.mark.promise(15)
@pytest.mark.parametrize("status", [*RunStatus, "deleted"])
@pytest.mark.parametrize("rule", [*Rule])
def test_no_end_is_green_while_its_run_may_fail_or_has_failed(rule: Rule, status: str) -> None:
    one, many = (report(rule, event="resolved", run=RunNow(name=None, status=status), count=n) for n in (1, 3))
    mixed = replace(many, statuses={"succeeded": 2, status: 1})
    for told in (one, many, mixed):
        said = written(told)
        green = said.level is Level.SUCCESS or "✅" in said.title + said.body
        assert green is (status == "succeeded"), said
        if status == "failed" and rule is not Rule.LEFTOVERS:
            assert said.level in (Level.CRITICAL, Level.FAILURE)


@pytest.mark.promise(15)
@pytest.mark.parametrize("rule", [Rule.BACKUP, Rule.WORKER_LOST, Rule.SYNC_BEHIND, Rule.SCHEDULE])
def test_end_of_what_is_no_run_is_green_only_where_it_is_known_to_be_well(rule: Rule) -> None:
    told = report(rule, event="resolved")
    subject = replace(told.subjects[0], run_id=None, run=None)
    well = written(replace(told, subjects=[subject], statuses={}))
    over = written(replace(told, subjects=[subject], statuses={"over": 1}))
    assert (well.level, over.level) == (Level.SUCCESS, Level.INFO)


def test_question_that_nobody_answered_is_not_called_answered() -> None:
    told = report(Rule.APPROVAL, event="resolved", run=RunNow(name=None, status="queued"), question="upgrade?")
    assert body(told).startswith("⚪ **Over: Run Waits For Approval**")


def test_repeat_about_another_attempt_says_nothing_of_the_one_that_died() -> None:
    again = RunNow(name=None, status="running", attempt=2, worker="ops-2-1")
    text = body(report(event="repeat", run=again))
    assert "- Worker: `ops-2-1`" in text
    assert "heartbeat" not in text
    assert "Its process died" not in text
    assert "Another attempt is running" in text


def test_end_of_some_while_others_last_is_red_and_keeps_the_reminders() -> None:
    told = written(report(event="ended", run=failed(), statuses={"failed": 1}), outlook=NEXT)
    assert told.title == "🚨 Ended In Failure: Stuck Run Detected: odoo_prod · backup"
    assert "- Became: `failed`" in told.body
    assert "ends its reminders" in told.body


def test_passwords_of_addresses_and_connection_strings_are_masked() -> None:
    error = "cannot reach postgresql://ops:s3cret@db/x?password=s3cret&sslmode=off token=s3cret"
    text = body(report(Rule.FAILED, run=failed(error=error)))
    assert "s3cret" not in text
    assert "postgresql://ops:***@db/x?password=***&sslmode=off token=***" in text


def test_failure_that_a_success_made_good_names_that_success() -> None:
    good = {"id": str(RUN), "name": "odoo_prod · backup", "at": "2026-11-24T04:00:00+00:00"}
    told = report(Rule.FAILED, event="resolved", run=failed(), statuses={"succeeded": 1}, resolved_by=good)
    text = body(told)
    assert text.startswith("✅ **Resolved: Run Failed**")
    assert "- Resolved by: `odoo_prod · backup` `2d4c5b6a`, succeeded 2026-11-24 04:00:00 UTC" in text
    assert "Became" not in text


def test_failure_without_a_success_ends_in_red() -> None:
    told = written(report(Rule.FAILED, event="resolved", run=failed()), outlook=NEXT)
    assert (told.level, told.title) == (Level.FAILURE, "🔴 Ended In Failure: Run Failed: odoo_prod · backup")


def test_failed_run_says_which_database_step_error_since_when_and_what_comes_next() -> None:
    text = body_with(report(Rule.FAILED, run=failed(error="no such file\nsecond line")), outlook=NEXT)
    lines = text.splitlines()
    assert "- Database: `odoo_prod`" in lines
    assert "- Step: `pg_dump`" in lines
    assert "- Error: `no such file`" in lines
    assert "- Failed: 2026-11-24 03:11:35 UTC, after 3 min 42 s" in lines
    assert "- Next: nothing tries it again" in lines


def test_subject_that_joins_says_its_own_time() -> None:
    later = failed(finished_at=NOW + timedelta(hours=3))
    told = written(report(Rule.FAILED, event="repeat", run=later))
    assert "(since 2026-11-24 03:12:05 UTC)" in told.body.splitlines()[0]
    assert "- Failed: 2026-11-24 06:12:05 UTC" in told.body


def test_link_says_where_alone_it_works() -> None:
    here = Links(server="http://127.0.0.1:4200", only_on="ops-1")
    assert "only: OPS_SERVER_URL is not set" not in body(report())
    link = f"- [Open the run](http://127.0.0.1:4200/v2/runs/flow-run/{RUN})"
    assert f"{link} (on `ops-1` only: OPS_SERVER_URL is not set)\n" in written(report(), links=here).body


def test_command_names_the_database_where_it_is_safe_to_type() -> None:
    told = report(Rule.BACKUP, kind="odoo_db_backup", database="odoo_prod", verified_at=None)
    for name, typed in (("odoo_prod", "odoo_prod"), ("x; rm -rf /", "NAME"), ("-x", "NAME"), ("a`b", "NAME")):
        subject = replace(told.subjects[0], name=name, run_id=None, run=None)
        text = body(replace(told, subjects=[subject], statuses={}))
        assert f"`ops run odoo_db_backup -p odoo_db={typed} --wait`" in text
        assert f"`ops alerts forget {typed}`" in text


FACTS: dict[str, Any] = {
    "attempt": 1, "worker": "ops-1-4711", "session": "Release 18.2", "silent_seconds": 30.4,
    "deadline_at": "2026-11-24T03:00:00+00:00", "waiting_since": "2026-11-24T03:00:00+00:00",
    "until": "2026-11-24 04:00:00 UTC", "question": "upgrade sale in odoo_prod?", "answer": "approved by ana",
    "deployment": "nightly_backup/nightly-backup", "schedule": "nightly", "expression": "0 2 * * *", "error": "Timeout",
    "pids": [1, 2], "database": "odoo_prod", "verified_at": "2026-11-24T03:00:00+00:00", "last_error": "Timeout",
    "lanes": ["A", "B"], "heartbeat_at": "2026-11-24T03:00:00+00:00", "missing": "prefect", "forgotten_at": None,
    "resolved_by": {"id": str(RUN), "name": "odoo_prod · backup", "at": "2026-11-24T04:00:00+00:00"},
}  # fmt: skip
UNKNOWN = st.sampled_from([None, "", " "])


def test_facts_are_all_that_messages_name() -> None:
    named = set(re.findall(r'facts(?:\.get\(|\[)"([a-z_]+)"', Path(messages.__file__).read_text()))
    assert named == {*FACTS, "heard_at"} - {"resolved_by"}


@given(
    rule=st.sampled_from(Rule),
    event=st.sampled_from(["firing", "repeat", "ended", "resolved"]),
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
    run = RunNow(name=None, status="failed", database=kind, step=kind, error=kind) if of_run else None
    subject = replace(given_.subjects[0], facts=facts, kind=kind, run_id=RUN if of_run else None, run=run)
    text = body(replace(given_, subjects=[subject] * count))
    assert not re.search(r"None|null|\[\]|\{|`-`|``|: *$", text, re.MULTILINE), text


def test_question_of_an_approval_says_how_to_answer_and_its_end_who_did() -> None:
    asked = report(Rule.APPROVAL, worker=None, silent_seconds=None, question="upgrade `sale` in odoo_prod @all?")
    text = body(asked)
    assert "- Question: `upgrade 'sale' in odoo_prod @all?`" in text
    assert f"`ops approve {RUN.hex[-8:]}`, or Resume" in text
    assert "Worker" not in text
    facts: dict[str, Any] = {"question": "upgrade?", "answer": "approved by ana", "until": "x"}
    answered = report(Rule.APPROVAL, event="resolved", run=RunNow(name=None, status="queued"), **facts)
    assert body(answered).startswith("⚪ **Answered: Run Waits For Approval**")
    assert "- Answer: `approved by ana`" in body(answered)
    assert "wanted until" not in body(answered)
    assert "Became" not in body(answered)


def test_messages_without_a_report_are_what_they_should_be() -> None:
    begins, ends, test = outage_begins(NOW), outage_ends(NOW), trial("mmosts-1234")
    assert begins.body.startswith("🚨 **The Ops Database Does Not Answer**\n- Since: 2026-11-24 03:12:05 UTC")
    assert (begins.level, begins.title) == (Level.CRITICAL, "🚨 The Ops Database Does Not Answer")
    assert (ends.level, ends.title) == (Level.SUCCESS, "✅ Resolved: The Ops Database Does Not Answer")
    assert "`mmosts-1234`" in test.body
    assert test.level is Level.INFO


QUESTION: dict[str, Any] = {
    "worker": None,
    "silent_seconds": None,
    "question": "upgrade sale in odoo_prod to commit 3f2a91c0b7de?",
}
UPGRADE = RunNow(name="odoo_prod · upgrade sale", status="queued", database="odoo_prod")
ASKED: dict[str, Any] = {"kind": "odoo_module_upgrade", "run": UPGRADE, **QUESTION, "until": "2026-11-24 04:12:00 UTC"}
RUNNING = failed(status="running", error=None, finished_at=None, max_attempts=3)
GOOD = failed(status="succeeded", error=None, step=None, attempt=2, finished_at=NOW + timedelta(minutes=9))
ENDS_AGAIN = "the room ends it, then tries it again, once"
IN_THE_PAGE = [
    (report(run=RUNNING), ENDS_AGAIN),
    (
        report(
            event="resolved", run=failed(error="no heartbeat: its process or its host is gone, or was cut off for 30 s")
        ),
        NEXT,
    ),
    (report(event="resolved", run=GOOD), ""),
    (report(Rule.APPROVAL, **ASKED), ""),
    (report(Rule.APPROVAL, event="resolved", **ASKED, answer="approved by ana with ops approve"), ""),
]


def test_messages_in_the_document_are_real_ones() -> None:
    docs = Path(__file__).parents[4] / "docs"
    guide, page = ((docs / name).read_text() for name in ("alerts.md", "alerts-reference.md"))
    for told, outlook in IN_THE_PAGE:
        assert f"```text\n{body_with(told, outlook=outlook)}\n```" in page
    assert [wording.title for wording in WORDINGS.values() if f"| {wording.title} |" not in guide] == []


@pytest.mark.parametrize("event", ["firing", "repeat", "ended", "resolved"])
def test_alert_of_one_run_says_in_its_first_line_what_the_run_is_called(event: Event) -> None:
    told = report(event=event)
    told = replace(told, subjects=[replace(told.subjects[0], run=RunNow(name="odoo_prod · backup", status="running"))])
    first = body(told).splitlines()[0]
    assert "**: `odoo_prod · backup`" in first
    run = RunNow(name="a` @all\n**x**", status="running")
    hostile = written(replace(told, subjects=[replace(told.subjects[0], run=run)]))
    assert "`a' @all **x**`" in hostile.body.splitlines()[0]
    assert "a? ?all ??x??" in hostile.title


def test_list_of_runs_says_what_they_are_called() -> None:
    told = report(count=2)
    runs = [RunNow(name=f"odoo_{number} · backup", status="running") for number in range(2)]
    named = [replace(one, run=run) for one, run in zip(told.subjects, runs, strict=True)]
    text = body(replace(told, subjects=named))
    assert "**: `" not in text.splitlines()[0]
    assert "`odoo_1 · backup`" in text
