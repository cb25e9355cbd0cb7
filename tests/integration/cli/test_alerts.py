"""`ops alerts` on a real PostgreSQL and a server that keeps to Mattermost's contract."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest

from cli import main
from opsdb.database import connect
from opsdb.settings import Settings
from tests.integration.opsdb.alerts_lab import Lab
from tests.mattermost import TOKEN, Mattermost, listening

Ops = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ops(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ops:
    monkeypatch.setenv("OPS_HOME", str(settings.home))
    monkeypatch.setenv("OPS_DATABASE_URL", settings.ops_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ops", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def lab(settings: Settings) -> Iterator[Lab]:
    engine = connect(settings, application="test")
    yield Lab(engine)
    engine.dispose()


def test_alerts_of_a_quiet_room(ops: Ops) -> None:
    code, out, _ = ops("alerts")
    assert code == 0
    assert "No alert lasts" in out
    assert "OPS_ALERT_URLS is not set" in out
    assert "The alerter never ran here." in out


def test_alerts_that_last_are_listed_for_people_and_programs(ops: Ops, lab: Lab) -> None:
    run_id = lab.run(status="queued", state="SCHEDULED", state_name="Late", age=1000)
    lab.cycle()
    lab.pass_seconds(6)
    lab.cycle()
    code, out, _ = ops("alerts")
    assert code == 0
    assert "queued" in out
    assert str(run_id) in out
    assert "message to main waits: not tried yet" in out
    document = json.loads(ops("alerts", "--json")[1])
    assert [(row["rule"], row["lane"], row["lasting"]) for row in document["alerts"]] == [("queued", "A", 1)]
    assert (document["episodes"], document["pending"]) == ({"untold": 0, "told": 1, "silenced": 0}, 1)


def test_silence_holds_and_can_be_ended(ops: Ops, lab: Lab) -> None:
    lab.run(status="queued", state="SCHEDULED", state_name="Late", age=1000)
    code, out, _ = ops("alerts", "silence", "queued", "--for", "2h")
    assert (code, out[:38]) == (0, "nothing new is told of queued until 20")
    lab.cycle()
    lab.pass_seconds(6)
    assert lab.cycle() == []
    assert "silent until" in ops("alerts")[1]
    assert ops("alerts", "silence", "queued", "--for", "0m")[0] == 0
    assert lab.cycle() == [("firing", "queued", "A", 1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "no rule"),
        (("queued", "--for", "soon"), "--for 2h"),
        (("queued", "--for", "31d"), "at most 30d"),
    ],
)
def test_wrong_silence_is_one_line(ops: Ops, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = ops("alerts", "silence", *arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_trial_reaches_every_destination_and_says_which_it_did_not(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OPS_ALERT_URLS names nobody" in ops("alerts", "test")[2]
    with listening(Mattermost()) as good, listening(Mattermost(moods=[403])) as bad:
        monkeypatch.setenv("OPS_ALERT_URLS", good.url)
        assert ops("alerts", "test")[0] == 0
        assert good.texts[0].startswith("🔔 **Test of the Ops Control Room's Alerts**")
        monkeypatch.setenv("OPS_ALERT_URLS", f"{good.url} critical={bad.url}")
        code, out, err = ops("alerts", "test")
    assert code == 2
    assert "not delivered: configuration, HTTP 403" in out
    assert "1 of 2" in err
    assert TOKEN not in out + err
