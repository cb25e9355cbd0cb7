"""What really arrives at a mail server, ntfy and a JSON receiver, compared with texts that somebody has looked at.

`OPS_TEST_GOLDEN=write` writes them again: look at what changed.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.alerting.destinations import read_destinations
from opsdb.alerts.episodes import Rule
from opsdb.alerts.outbox import Message
from opsdb.settings import Settings
from tests.support.http_recorder import recording
from tests.support.mail_server import MailServer, mailing
from tests.support.reports import NEXT, failed, report, written

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = "no <b>file</b> &amp; `x` **y** [z](http://evil) @all\nsecond line"
DEAD = failed(error="no heartbeat: its process or its host is gone, or was cut off for 30 s")
ONE = report(Rule.FAILED, silent_seconds=None, run=failed(error=HOSTILE))
MESSAGES = {
    "failed": written(ONE, outlook=NEXT),
    "stuck": written(report(run=failed(status="running", error=None, finished_at=None)), outlook="the room ends it"),
    "ended-in-failure": written(report(event="resolved", run=DEAD), outlook=NEXT),
    "resolved": written(report(event="resolved", run=failed(status="succeeded", error=None, step=None, attempt=2))),
    "three": written(
        replace(
            ONE, count=3, kinds={"odoo_db_backup": 3}, databases=["odoo_a", "odoo_prod"], subjects=[*ONE.subjects] * 3
        )
    ),
}


def deliver(url: str, message: Message) -> None:
    [destination] = read_destinations(Settings(alert_urls=SecretStr(url)))
    assert destination.send(message) is None


def compare(name: str, text: str) -> None:
    path, text = GOLDEN / name, text.replace("\r\n", "\n")
    if os.environ.get("OPS_TEST_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", MESSAGES)
def test_mail_has_a_subject_a_page_and_a_plain_text(name: str) -> None:
    with mailing(MailServer()) as server:
        deliver(server.url, MESSAGES[name])
    mail = email.message_from_bytes(server.mails[0], policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    plain, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert page is not None
    compare(f"{name}.mail.txt", f"Subject: {mail['Subject']}\n\n{plain.get_content()}\n")
    compare(f"{name}.mail.html", page.get_content() + "\n")


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("scheme", ["ntfy", "json"])
def test_title_type_and_text_arrive(name: str, scheme: str) -> None:
    with recording() as server:
        deliver(f"{scheme}://127.0.0.1:{server.port}/ops", MESSAGES[name])
    [request] = server.requests
    document = json.loads(request.body)
    compare(f"{name}.{scheme}.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def test_golden_texts_hold_the_hostile_value_as_text() -> None:
    page = (GOLDEN / "failed.mail.html").read_text()
    assert "no &lt;b&gt;file&lt;/b&gt; &amp;amp; 'x' **y** [z](http://evil) @all" in page
    assert page.count("<a ") == 1
    ntfy = json.loads((GOLDEN / "failed.ntfy.json").read_text())
    assert "- Error: no <b>file</b> &amp; 'x' **y** [z](http://evil) @all\n" in ntfy["message"]
    assert json.loads((GOLDEN / "failed.json.json").read_text())["type"] == "warning"
    assert json.loads((GOLDEN / "ended-in-failure.json.json").read_text())["type"] == "failure"
    assert not [path.name for path in GOLDEN.iterdir() if path.name.split(".")[0] not in MESSAGES]
