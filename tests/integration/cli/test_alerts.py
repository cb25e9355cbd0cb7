"""`ops alerts` on a real PostgreSQL and a server that keeps to Mattermost's contract."""

from __future__ import annotations

import json
import re

import pytest

from cli.account import account
from opsdb.alerts.thresholds import parse_thresholds
from opsdb.runs.lookup import short_id
from tests.integration.cli.conftest import Ops
from tests.support.alerts_lab import Lab
from tests.support.mattermost import TOKEN, Mattermost, listening
from tests.support.reports import written


def test_alerts_of_a_quiet_room(ops: Ops) -> None:
    code, out, _ = ops("alerts")
    assert code == 0
    assert "No active alerts" in out
    assert "OPS_ALERT_URLS is not set" in out
    assert "The alerter never ran here." in out


def test_alerter_that_has_not_worked_for_a_minute_is_named(ops: Ops, lab: Lab) -> None:
    lab.cycle()
    assert "alerter" not in ops("alerts")[1]
    lab.sql("UPDATE ops.sync_marks SET updated_at = updated_at - interval '61 s' WHERE name = 'alerts'")
    assert "No alerter has worked for 60 s: what is new was sent to nobody." in ops("alerts")[1]


def test_alerts_that_last_are_listed_for_people_and_programs(ops: Ops, lab: Lab) -> None:
    run_id = lab.run(status="queued", state="SCHEDULED", state_name="Late", age=1000)
    lab.cycle()
    lab.pass_seconds(6)
    lab.cycle()
    code, out, _ = ops("alerts")
    assert code == 0
    assert "queued" in out
    assert f"run {short_id(run_id)}" in out
    assert f"Run Queued Too Long: `ops show {short_id(run_id)}` says what it waits for" in out
    assert "message to main waits: not tried yet" in out
    document = json.loads(ops("alerts", "--json")[1])
    assert [(row["rule"], row["lane"], row["lasting"]) for row in document["alerts"]] == [("queued", "A", 1)]
    assert (document["episodes"], document["pending"]) == ({"untold": 0, "told": 1, "silenced": 0}, 1)


def test_alerts_name_kind_database_and_who_has_them(ops: Ops, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lab.thresholds = parse_thresholds("failed=0")
    for database in ("odoo_prod", "odoo_staging"):
        lab.finish(lab.run(kind="odoo_db_backup", params=json.dumps({"odoo_db": database})))
    lab.cycle()
    lab.pass_seconds(6)
    lab.cycle()
    [row] = json.loads(ops("alerts", "--json")[1])["alerts"]
    assert (row["kinds"], row["databases"]) == (["odoo_db_backup"], ["odoo_prod", "odoo_staging"])
    out = ops("alerts")[1]
    assert re.search(r"reported +(odoo_db_backup +)?odoo_prod, odoo_staging", out), out
    code, said, _ = ops("alerts", "ack", str(row["id"]))
    assert (code, said) == (0, f"alert {row['id']} acknowledged by {account()}: no more reminders of it\n")
    assert f"{account()} has it" in ops("alerts")[1]
    lab.pass_seconds(5 * 3600)
    assert lab.cycle() == []


def test_alert_that_does_not_last_cannot_be_acknowledged(ops: Ops) -> None:
    code, _, err = ops("alerts", "ack", "7")
    assert (code, "alert 7 is not active" in err) == (2, True)


def test_silence_holds_and_can_be_ended(ops: Ops, lab: Lab) -> None:
    lab.run(status="queued", state="SCHEDULED", state_name="Late", age=1000)
    code, out, _ = ops("alerts", "silence", "queued", "--for", "2h")
    assert code == 0
    assert re.fullmatch(
        r"alerts for queued are silenced until 20\S+ \S+ UTC: `ops alerts silence queued --for 0m` ends that\n", out
    )
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == []
    assert "silent until" in ops("alerts")[1]
    assert ops("alerts", "silence", "queued", "--for", "0m")[:2] == (0, "alerts for queued are reported again\n")
    assert ops("alerts", "silence", "queued", "--for", "0m")[1].startswith("alerts for queued were not silenced")
    assert lab.cycle() == [("firing", "queued", "A", 1)]


def test_silences_are_listed_while_nothing_is_wrong(ops: Ops) -> None:
    assert ops("alerts", "silence", "worker_lost", "--for", "3d")[0] == 0
    assert ops("alerts", "silence", "queued", "--for", "1h")[0] == 0
    out = ops("alerts")[1]
    assert "No active alerts" in out
    told = re.findall(r"alerts for (\w+) are silenced until .+ UTC: `ops alerts silence (\w+) --for 0m` ends that", out)
    assert told == [("queued", "queued"), ("worker_lost", "worker_lost")]  # the first to end comes first
    assert [one["rule"] for one in json.loads(ops("alerts", "--json")[1])["silences"]] == ["queued", "worker_lost"]
    assert ops("alerts", "silence", "queued", "--for", "0m")[0] == 0
    assert "queued" not in ops("alerts")[1]


@pytest.mark.parametrize("words", ["x", "0", "-1", "1.5", "²", "", str(2**63)])
def test_what_is_not_the_number_of_an_alert_is_refused_in_our_words(ops: Ops, words: str) -> None:
    code, _, err = ops("alerts", "ack", "--", words)
    assert (code, err) == (
        2,
        f"ops: ALERT: {words!r} is not the number of an alert. Hint: `ops alerts` lists them\n",
    )


def test_database_that_is_gone_is_forgotten_and_another_is_refused(ops: Ops, lab: Lab) -> None:
    params = json.dumps({"odoo_db": "odoo_old"})
    lab.finish(lab.run(kind="odoo_db_backup", params=params, age=100_000), "cancelled")
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == [("firing", "backup", "room", 1)]
    code, _, err = ops("alerts", "forget", "odoo_odl")
    assert code == 2
    assert "'odoo_odl'. Did you mean odoo_old?" in err
    code, out, _ = ops("alerts", "forget", "odoo_old")
    assert code == 0
    assert "no backup of odoo_old is expected" in out
    lab.cycle()
    lab.pass_seconds(601)
    assert lab.cycle() == [("resolved", "backup", "room", 1)]
    assert "Ended by: an operator" in written(lab.reports[-1]).body


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "RULE: invalid value 'nonsense' (choose from stuck, overdue,"),
        (("Stuck",), "). Did you mean stuck?"),
        (("queued", "--for", "soon"), "--for 2h"),
        (("queued", "--for", "31d"), "at most 30d"),
        (("queued", "--for", "never"), "; `--for 0m` ends a silence"),
    ],
)
def test_wrong_silence_is_one_line(ops: Ops, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = ops("alerts", "silence", *arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [("alerts", "test"), ("up",)])
def test_word_that_means_nothing_is_refused_where_it_is_read(
    ops: Ops, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("OPS_ALERT_URLS", f"critcal=mmost://127.0.0.1/{TOKEN}")
    code, _, err = ops(*command)
    assert code == 2
    assert "OPS_ALERT_URLS: entry 1: unknown word 'critcal'. Did you mean critical?" in err
    assert TOKEN not in err
    code, out, _ = ops("alerts")
    assert code == 0
    assert "Did you mean critical?" in " ".join(out.split())


def test_trial_reaches_every_destination_and_says_which_it_did_not(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OPS_ALERT_URLS is not set" in ops("alerts", "test")[2]
    with listening(Mattermost()) as good, listening(Mattermost(moods=[403])) as bad:
        monkeypatch.setenv("OPS_ALERT_URLS", good.url)
        assert ops("alerts", "test")[0] == 0
        assert good.texts[0].startswith("⚪ **Test of the Ops Control Room's Alerts**")
        monkeypatch.setenv("OPS_ALERT_URLS", f"{good.url} critical={bad.url}")
        code, out, err = ops("alerts", "test")
    assert code == 2
    assert "not delivered: configuration, HTTP 403" in out
    assert "1 of 2" in err
    assert TOKEN not in out + err
