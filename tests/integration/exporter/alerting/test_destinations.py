"""One attempt to deliver, against a server that keeps to Mattermost's contract and one that does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr, ValidationError

from exporter.alerting import mattermost
from exporter.alerting.destinations import Destination, read_destinations
from opsdb.alerts.outbox import Failure, Level
from opsdb.errors import UsageError
from opsdb.settings import Settings
from tests.support.alerts_lab import message
from tests.support.mattermost import TOKEN, Mattermost, listening


def destinations(urls: str) -> list[Destination]:
    return read_destinations(Settings(alert_urls=SecretStr(urls)))


@pytest.fixture
def chat() -> Iterator[Mattermost]:
    with listening(Mattermost()) as chat:
        yield chat


def destination(chat: Mattermost) -> Destination:
    [found] = destinations(chat.url)
    return found


def test_post_arrives_with_channel_and_name(chat: Mattermost) -> None:
    assert destination(chat).send(message("hello **you**")) is None
    [post] = chat.posts
    assert post == {"text": "hello **you**", "username": "ops", "channel": "ops-alerts"}


@pytest.mark.parametrize("level", [*Level])
def test_critical_messages_to_mattermost_call_somebody(chat: Mattermost, level: Level) -> None:
    settings = Settings(alert_urls=SecretStr(chat.url), alert_mention="@ops-on-call @ana")
    [found] = read_destinations(settings)
    assert found.send(message("hello", level=level)) is None
    assert chat.texts == ["hello\n@ops-on-call @ana" if level is Level.CRITICAL else "hello"]


@pytest.mark.parametrize("words", ["ops", "@", "@Ops", "@a,@b", "<!channel>", "@a\n# x", "@a`"])
def test_mention_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(ValidationError, match=r"expected names of users or groups, as in `@ops-on-call`"):
        Settings(alert_mention=words)


@pytest.mark.parametrize(
    ("status", "reason", "lasting"),
    [
        (201, "configuration", True),
        (204, "configuration", True),
        (301, "redirect", True),
        (307, "redirect", True),
        *((status, "configuration", True) for status in (400, 403, 404, 405, 410, 413, 422, 501)),
        (401, "login", True),
        (408, "server", False),
        (429, "rate_limited", False),
        *((status, "server", False) for status in (500, 502, 503, 504, 520, 599)),
    ],
)
def test_status_is_kept_and_judged(chat: Mattermost, status: int, reason: str, lasting: bool) -> None:
    chat.moods = [status]
    assert destination(chat).send(message("x")) == Failure(reason=reason, lasting=lasting, http_status=status)


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("soon", None), ("-3", None), ("", None)])
def test_retry_after_is_kept(chat: Mattermost, value: str, seconds: float | None) -> None:
    chat.moods, chat.headers = [429], {"Retry-After": value}
    failure = destination(chat).send(message("x"))
    assert failure is not None
    assert failure.retry_after_seconds == seconds


def test_retry_after_may_be_a_date_by_the_servers_clock(chat: Mattermost) -> None:
    chat.moods = [503]
    chat.headers = {"Retry-After": "Wed, 21 Oct 2099 07:28:30 GMT", "Date": "Wed, 21 Oct 2099 07:28:00 GMT"}
    failure = destination(chat).send(message("x"))
    assert failure is not None
    # the server's own Date comes first in the answer and is today's: what counts is that a date is read at all
    assert failure.retry_after_seconds is not None
    assert failure.retry_after_seconds >= 30


def test_redirect_is_no_success_and_not_followed(chat: Mattermost) -> None:
    chat.moods = ["redirect"]
    assert destination(chat).send(message("x")) == Failure(reason="redirect", lasting=True, http_status=302)
    assert len(chat.requests) == 1


def test_a_page_with_200_is_no_success(chat: Mattermost) -> None:
    chat.moods = ["login"]
    assert destination(chat).send(message("x")) == Failure(reason="unexpected_answer", http_status=200)


@pytest.mark.parametrize("mood", ["hang", "drip"])
def test_server_that_never_comes_to_an_end_is_left(
    chat: Mattermost, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mattermost, "EXCHANGE_SECONDS", 0.5)
    chat.moods = [mood]
    began = time.monotonic()
    assert destination(chat).send(message("x")) == Failure(reason="timeout")
    assert time.monotonic() - began < 5


def test_reset_after_the_post_is_a_failure(chat: Mattermost) -> None:
    chat.moods = ["reset"]
    assert destination(chat).send(message("x")) == Failure(reason="connection")
    assert len(chat.posts) == 1


def test_nobody_listening_is_a_failure() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    [found] = destinations(f"mmost://127.0.0.1:{port}/{TOKEN}")
    assert found.send(message("x")) == Failure(reason="refused")


def test_empty_text_wrong_hook_unknown_channel_and_too_much_are_refused(chat: Mattermost) -> None:
    assert destination(chat).send(message("  ")) == Failure(reason="configuration", lasting=True, http_status=400)
    wrong = destinations(chat.url.replace(TOKEN, "nope"))[0]
    assert wrong.send(message("x")) == Failure(reason="configuration", lasting=True, http_status=400)
    gone = destinations(chat.url.replace("ops-alerts", "gone"))[0]
    assert gone.send(message("x")) == Failure(reason="configuration", lasting=True, http_status=404)
    assert destination(chat).send(message("x" * 300_001)) == Failure(
        reason="configuration", lasting=True, http_status=413
    )
    assert chat.posts == []


def test_any_other_apprise_address_works_and_keeps_its_status(chat: Mattermost) -> None:
    [found] = destinations(f"json://127.0.0.1:{chat.port}/hooks/other")
    chat.moods = [204]
    assert found.send(message("x")) is None
    chat.moods = [403]
    assert found.send(message("x")) == Failure(reason="configuration", lasting=True, http_status=403)
    chat.moods = ["redirect"]
    failure = found.send(message("x"))
    assert failure is not None
    assert failure.http_status == 302


def test_channels_of_one_address_are_destinations_of_their_own(chat: Mattermost) -> None:
    found = destinations(chat.url.replace("to=ops-alerts", "to=a,b"))
    assert len({one.name for one in found}) == 2
    assert [one.send(message("x")) for one in found] == [None, None]
    assert [post["channel"] for post in chat.posts] == ["a", "b"]


def test_token_stands_in_no_log_name_repr_or_error(chat: Mattermost, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("", "apprise", "urllib3", "urllib3.connectionpool", "requests", "http.client"):
        caplog.set_level(1, logger=name)  # the fixture sets it back
    shown = []
    for url in (chat.url, f"json://127.0.0.1:{chat.port}/hooks/{TOKEN}"):
        for mood in (200, 403, 500, "reset", "redirect"):
            chat.moods = [mood]
            [found] = destinations(url)
            shown += [found.name, repr(found), repr(found.send(message("x")))]
    for broken in (f"nonsense://{TOKEN}", f"mmosts://{TOKEN}", f"{TOKEN}", f"mmost:///{TOKEN}/", f"slack://{TOKEN}"):
        with pytest.raises(UsageError) as refused:
            destinations(broken)
        shown.append(str(refused.value))
        assert refused.value.__cause__ is None
    assert TOKEN not in " ".join(shown)
    assert TOKEN not in caplog.text
    assert threading.active_count() < 20
