"""The alerter in a process of its own, against a real PostgreSQL and a server that keeps to Mattermost's contract."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from exporter.alerting import alerter, outage, sender
from exporter.alerting.alerter import Alerter
from exporter.alerting.destinations import Destination
from opsdb.alerts.outbox import Failure, Message
from opsdb.alerts.read import read_figures
from opsdb.database import connect
from opsdb.settings import Settings
from tests.support.alerts_lab import Lab
from tests.support.mattermost import TOKEN, Mattermost, listening
from tests.support.tiers import in_soak

STEPS = (
    "before the message is stored",
    "stored and not committed",
    "before it is leased",
    "leased and not sent",
    "sent and not noted",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alerters of this process look ten times as often."""
    monkeypatch.setattr(alerter, "CYCLE_SECONDS", 0.1)
    monkeypatch.setattr(sender, "POLL_SECONDS", 0.1)


@pytest.fixture
def chat() -> Iterator[Mattermost]:
    with listening(Mattermost()) as chat:
        yield chat


@pytest.fixture
def lab(settings: Settings) -> Iterator[Lab]:
    settings.home.mkdir(parents=True)
    engine = connect(settings, application="test")
    yield Lab(engine)
    engine.dispose()


def until(true: Callable[[], Any], *, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def stuck(lab: Lab, **columns: Any) -> Any:
    """A run that the sweeper has fenced, old enough to be told of at once."""
    run_id = lab.run(fence_reason="HeartbeatTimeout", **columns)
    from opsdb.alerts.episodes import open_fenced

    with lab.engine.begin() as db:
        open_fenced(db, [run_id])
    lab.sql("UPDATE ops.alert_episodes SET opened_at = opened_at - interval '6 s' WHERE run_id = :id", id=run_id)
    return run_id


@contextmanager
def alerting(settings: Settings, urls: str) -> Iterator[None]:
    """The alerter in a thread of this process."""
    stop = threading.Event()
    ours = settings.model_copy(update={"alert_urls": SecretStr(urls)})
    thread = threading.Thread(target=Alerter(ours).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def start(settings: Settings, urls: str, *step: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"OPS_HOME": str(settings.home), "OPS_DATABASE_URL": settings.ops_url, "OPS_ALERT_URLS": urls}
    with (settings.home / "alerter.log").open("ab") as log:
        argv = [sys.executable, "-m", "tests.integration.exporter.alerter_process", *step]
        return subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd=Path(__file__).parents[4])


def expire_leases(lab: Lab) -> None:
    lab.sql(
        "UPDATE ops.alert_deliveries SET leased_until = clock_timestamp() - interval '1 s' WHERE leased_until > now()"
    )


def hurry(lab: Lab) -> bool:
    lab.sql("UPDATE ops.alert_deliveries SET next_attempt_at = now() WHERE leased_until IS NULL")
    return True


def test_stuck_run_and_its_end_arrive_once_each(lab: Lab, settings: Settings, chat: Mattermost) -> None:
    with alerting(settings, chat.url):
        run_id = stuck(lab, kind="odoo_db_backup", claimed_by="ops-1-4711")
        until(lambda: len(chat.posts) == 1)
        assert chat.texts[0].startswith(
            f"🚨 **Stuck Run Detected**\n- Run ID: `{run_id}`\n- Kind: `odoo_db_backup`\n- Worker: `ops-1-4711`\n"
        )
        lab.finish(run_id)
        until(lambda: len(chat.posts) == 2)
        assert chat.texts[1].startswith("🚨 **Ended In Failure: Stuck Run Detected**")
        time.sleep(1)
    assert len(chat.posts) == 2
    with lab.engine.connect() as db:
        figures = read_figures(db)
    assert (figures.delivered_total, figures.pending, figures.dead, figures.failed_total) == (2, 0, 0, {})
    assert figures.last_cycle_at is not None


@pytest.mark.parametrize("step", [*STEPS[:2], *in_soak(STEPS[2:])])
def test_killed_at_any_step_the_next_one_delivers(lab: Lab, settings: Settings, chat: Mattermost, step: str) -> None:
    run_id = stuck(lab)
    lab.finish(run_id)
    first = start(settings, chat.url, step)
    assert first.wait(40) == -signal.SIGKILL
    before = len(chat.posts)
    assert before == (1 if step == "sent and not noted" else 0)
    with psycopg.connect(settings.ops_url, autocommit=True) as db:  # as who logs in: the server may still know of it
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ops alerter'")
    expire_leases(lab)
    with alerting(settings, chat.url):
        until(lambda: len(chat.posts) == before + 2)
        time.sleep(1)
    titles = [text.splitlines()[0] for text in chat.texts]
    firing, resolved = "🚨 **Stuck Run Detected**", "🚨 **Ended In Failure: Stuck Run Detected**"
    assert titles == [firing] * (before + 1) + [resolved]  # twice only where nobody can know that it arrived
    assert TOKEN not in (settings.home / "alerter.log").read_text()


@pytest.mark.gate
def test_20_restarts_tell_nothing_twice(lab: Lab, settings: Settings, chat: Mattermost) -> None:
    run_id = stuck(lab)
    for number in range(20):
        if number == 10:
            lab.finish(run_id)
        with alerting(settings, chat.url):
            time.sleep(0.4)
    with alerting(settings, chat.url):
        until(lambda: len(chat.posts) >= 2)
        time.sleep(0.7)
    assert len(chat.posts) == 2


@pytest.mark.parametrize("other", ["home", "home of another host"])
def test_two_alerters_tell_what_one_would(
    lab: Lab, settings: Settings, chat: Mattermost, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    send = Destination.send

    def slowly(self: Destination, message: Message) -> Failure | None:
        time.sleep(0.5)  # in which the other one looks for something to send
        return send(self, message)

    monkeypatch.setattr(Destination, "send", slowly)
    second = settings.model_copy(update={"home": settings.home.parent / other})
    with alerting(settings, chat.url), alerting(second, chat.url):
        run_id = stuck(lab)
        until(lambda: len(chat.posts) == 1)
        lab.finish(run_id)
        until(lambda: len(chat.posts) == 2)
        time.sleep(0.75)  # in which the other one would send it as well
    assert [text[0] for text in chat.texts] == ["🚨", "🚨"]


def test_second_alerter_of_a_room_takes_over_at_the_end_of_the_first(
    lab: Lab, settings: Settings, chat: Mattermost
) -> None:
    with ExitStack() as first:
        first.enter_context(alerting(settings, chat.url))
        until(lambda: lab.sql("SELECT 1 FROM ops.sync_marks WHERE name = 'alerts'"))
        with alerting(settings, ""):  # by hand, in a shell without OPS_ALERT_URLS: alone it would close what is over
            for number in range(3):
                run_id = stuck(lab)
                until(lambda n=number: len(chat.posts) == 2 * n + 1)  # type: ignore[misc]
                lab.finish(run_id)
                until(lambda n=number: len(chat.posts) == 2 * n + 2)  # type: ignore[misc]
            first.close()
            lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '1 h' WHERE name = 'alerts'")
            until(lambda: lab.sql("SELECT 1 FROM ops.sync_marks WHERE updated_at > now() - interval '1 min'"))


def test_outage_of_mattermost_is_waited_out_in_order(lab: Lab, settings: Settings, chat: Mattermost) -> None:
    chat.moods = [503]
    with alerting(settings, chat.url):
        run_id = stuck(lab)
        until(lambda: chat.requests)
        lab.finish(run_id)
        for attempts in range(2, 20):  # each wait is cut short: the clock of the backoff is the table
            until(lambda n=attempts: hurry(lab) and len(chat.requests) >= n)  # type: ignore[misc]
        time.sleep(1)
        waits = lab.sql(
            "SELECT max(extract(epoch FROM next_attempt_at - clock_timestamp())) w FROM ops.alert_deliveries"
        )
        assert waits[0].w < 50  # so that it arrives within a minute of the return
        chat.moods = [200]
        until(lambda: hurry(lab) and len(chat.posts) == 2)
    assert [text[:1] for text in chat.texts] == ["🚨", "🚨"]
    with lab.engine.connect() as db:
        assert read_figures(db).failed_total["server"] >= 19


def test_refused_address_is_tried_seldom_and_kept(lab: Lab, settings: Settings, chat: Mattermost) -> None:
    chat.moods = [403]
    with alerting(settings, chat.url):
        stuck(lab)
        until(lambda: chat.requests)
        until(lambda: lab.sql("SELECT 1 FROM ops.alert_deliveries WHERE reason = 'configuration'"))
        time.sleep(1)
    [row] = lab.sql("SELECT *, extract(epoch FROM next_attempt_at - now()) AS wait FROM ops.alert_deliveries")
    assert (row.attempts, row.http_status, row.dead_at) == (1, 403, None)
    assert row.wait > 700


def test_one_destination_that_hangs_keeps_back_no_other(lab: Lab, settings: Settings, chat: Mattermost) -> None:
    with listening(Mattermost(moods=["hang"])) as hanging, alerting(settings, f"{hanging.url} {chat.url}"):
        stuck(lab)
        until(lambda: hanging.requests)
        until(lambda: chat.posts, seconds=8)
        hanging.closing.set()


def test_routing_is_by_severity_and_kind(lab: Lab, settings: Settings) -> None:
    with listening(Mattermost()) as all_, listening(Mattermost()) as mild, listening(Mattermost()) as backups:
        with alerting(settings, f"{all_.url} warning={mild.url} critical,odoo_db_backup={backups.url}"):
            stuck(lab, kind="k", lane="A")
            stuck(lab, kind="odoo_db_backup", lane="B")
            lab.sql("UPDATE ops.sync_marks SET updated_at = now() - interval '2 min', at = now() - interval '1 day'")
            until(lambda: len(all_.posts) == 2 and len(backups.posts) == 1)
            time.sleep(0.7)
        assert mild.posts == []
        assert "odoo_db_backup" in backups.texts[0]


def test_removed_destination_is_given_up_and_the_new_one_is_told(
    lab: Lab, settings: Settings, chat: Mattermost
) -> None:
    with alerting(settings, "mmost://127.0.0.1:9/gonegonegone"):
        stuck(lab)
        until(lambda: lab.sql("SELECT 1 FROM ops.alert_deliveries WHERE reason = 'refused'"))
    with alerting(settings, chat.url):
        until(lambda: chat.posts)
    [row] = lab.sql("SELECT reason FROM ops.alert_deliveries WHERE dead_at IS NOT NULL")
    assert row.reason == "destination removed"


def test_database_outage_is_told_once_and_its_end_once_over_restarts(
    lab: Lab, settings: Settings, chat: Mattermost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "TELL_AFTER_SECONDS", 0.5)
    away = settings.model_copy(update={"database_url": SecretStr(settings.ops_url.replace("/postgres/socket", "/no"))})
    for _ in range(3):
        with alerting(away, chat.url), alerting(away, chat.url):  # two of one room
            until(lambda: chat.posts)
            time.sleep(0.7)
    assert [text.splitlines()[0] for text in chat.texts] == ["🚨 **The Ops Database Does Not Answer**"]
    for _ in range(2):
        with alerting(settings, chat.url), alerting(settings, chat.url):
            until(lambda: len(chat.posts) == 2)
            time.sleep(1)
    assert chat.texts[1].startswith("✅ **Resolved: The Ops Database Does Not Answer**")
    assert len(chat.posts) == 2
    assert list(settings.home.glob("alerter-outage*")) == []


def test_deadman_is_heard_only_while_messages_arrive(
    lab: Lab, settings: Settings, chat: Mattermost, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(alerter, "send_sign_of_life", heard.append)
    ours = settings.model_copy(update={"deadman_url": SecretStr("http://127.0.0.1:1/ping")})
    with alerting(ours, chat.url):
        until(lambda: heard)
    heard.clear()
    chat.moods = [500]
    with alerting(settings, chat.url):
        stuck(lab)
        until(lambda: chat.requests)
    lab.sql("UPDATE ops.alert_messages SET created_at = created_at - interval '16 min'")
    with alerting(ours, chat.url):
        time.sleep(1)
    assert heard == []
