"""What each of Apprise's kinds of destinations gets: nothing that somebody else chose does anything there."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from apprise import Apprise
from apprise.common import NotifyType

from exporter.alerting.apprise_notifier import AppriseNotifier
from opsdb.alerts.episodes import Rule
from opsdb.alerts.outbox import Level
from tests.support.alerts_lab import message
from tests.support.reports import NEXT, failed, report, written

EVIL = "<b>a</b> **b** [c](http://evil) <http://evil> @everyone <@123> <!channel> _d_ `e"
SHOWN = EVIL.replace("`", "'")
TOLD = written(
    report(Rule.FAILED, silent_seconds=None, run=failed(name="odoo_prod · backup", error=EVIL)), outlook=NEXT
)
TEXT = ("ntfy://127.0.0.1/ops", "gotify://127.0.0.1/AbCdEfGhIjKlMnO", "syslog://", "pbul://abcdefghijklmnopqrst")
DISCORD = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
MARKDOWN = (DISCORD, "rocket://user:pw@127.0.0.1/#c", "json://127.0.0.1/x")
OTHERS = (
    "mailto://u:p@127.0.0.1:2525?to=a@example.org&from=ops@example.org",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
    "tgram://123456789:abcdefg_hijklmnop/12315544",
    "matrix://u:p@127.0.0.1/#a",
)


def sent(url: str, told: Any = TOLD) -> list[dict[str, Any]]:
    """What Apprise hands over to be sent there."""
    notifier = Apprise.instantiate(url)
    assert notifier is not None
    calls: list[dict[str, Any]] = []

    def send(**call: Any) -> bool:
        calls.append(call)
        return True

    notifier.send = send  # type: ignore[method-assign,assignment]
    assert AppriseNotifier(notifier, overflows=True).post(told) is None
    return calls


@pytest.mark.parametrize("url", [*TEXT, *MARKDOWN, *OTHERS])
def test_every_destination_gets_title_and_type(url: str) -> None:
    calls = sent(url)
    head = "⚠️ Run Failed: odoo_prod · backup"
    assert all(call["notify_type"] is NotifyType.WARNING for call in calls)
    assert head in calls[0]["title"] + calls[0]["body"]
    assert "pg_dump" in "".join(call["body"] for call in calls)


@pytest.mark.parametrize("url", TEXT)
def test_plain_text_has_no_marks_and_the_value_as_it_is(url: str) -> None:
    text = "".join(call["body"] for call in sent(url))
    assert f"- Error: {SHOWN}\n" in text
    assert "Open the run: https://ops.example.org/" in text
    assert "**" not in text.replace(SHOWN, "")


@pytest.mark.parametrize("url", MARKDOWN)
def test_markdown_keeps_the_value_in_its_code_span(url: str) -> None:
    text = "".join(call["body"] for call in sent(url))
    assert f"`{SHOWN}`" in text.replace("\N{WORD JOINER}", "")
    assert ("@everyone" in text) is url.startswith("json")  # a program gets the value as it is


@pytest.mark.parametrize("url", OTHERS)
def test_value_is_escaped_for_what_has_marks_of_its_own(url: str) -> None:
    text = "".join(call["body"] for call in sent(url))
    if "mailto" in url or "slack" in url or "matrix" in url:
        assert "&lt;b&gt;a&lt;/b&gt;" in text
        assert "<!channel>" not in text
        assert "&lt;!channel&gt;" in text
    else:
        assert f"`{SHOWN}`" in text.replace("\N{WORD JOINER}", "")


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        (Level.CRITICAL, NotifyType.FAILURE),
        (Level.FAILURE, NotifyType.FAILURE),
        (Level.WARNING, NotifyType.WARNING),
        (Level.INFO, NotifyType.INFO),
        (Level.SUCCESS, NotifyType.SUCCESS),
    ],
)
def test_level_is_apprise_s_type(level: Level, kind: NotifyType) -> None:
    [call] = sent("json://127.0.0.1/x", message("one\ntwo", level=level))
    assert (call["notify_type"], call["body"]) == (kind, "two")


def test_text_message_gets_the_beginning_and_a_chat_all_parts() -> None:
    short = sent("sns://AHIAJGNT76XIMXDBIJYA/bu1dHSdO22pfaaVy/us-east-2/+12223334444")
    assert len(short) == 1
    assert "Run Failed: odoo_prod" in short[0]["body"]
    long = message("one\n" + "two words " * 1000)
    assert len(sent("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", long)) > 4


@pytest.mark.parametrize("url", [DISCORD, f"{DISCORD}?format=markdown", f"{DISCORD}?format=text"])
def test_value_calls_nobody_on_discord(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = []

    def post(_url: str, **values: Any) -> requests.Response:
        bodies.append(str(values.get("data")))
        answer = requests.Response()
        answer.status_code = 204
        return answer

    monkeypatch.setattr(requests, "post", post)
    notifier = Apprise.instantiate(url)
    assert AppriseNotifier(notifier, overflows=True).post(TOLD) is None
    assert bodies
    assert not any(call in body for body in bodies for call in ("@everyone", "<@123>", "<@&"))
