"""Schedules as people have them: shown, changed and kept back, and what becomes of due times that come late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

DEPLOYMENT = "disk_space/disk_space-lane-c"
HOURLY = {"cron": "0 * * * *", "timezone": "UTC"}


@pytest.fixture
def hourly(api: Api, own_folder: Path) -> Iterator[Path]:
    """The folder that a schedule looks at which somebody made in the UI; it is called like its deployment."""
    with api.schedule(DEPLOYMENT, {"folder": str(own_folder)}, **HOURLY):
        yield own_folder


def listed(desk: Desk, name: str) -> dict[str, Any]:
    [document] = desk.json("schedule", "list", name)
    return dict(document)


def backlog(desk: Desk, api: Api, folder: Path, *, hours: int) -> list[dict[str, Any]]:
    """What became of the due times of the last hours, as if the room had been down: the oldest first."""
    now = datetime.now(UTC)
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
    path = f"/deployments/{api.deployment(DEPLOYMENT)['id']}/schedule"
    api.post(path, start_time=since.isoformat(), end_time=now.isoformat(), min_time=hours * 3600.0)

    def over() -> list[dict[str, Any]] | None:
        runs = desk.json("runs", "--kind", "disk_space", "--lane", "C", "--limit", "100")
        own = [run for run in runs if run["params"] == {"folder": str(folder)} and run["finished_at"]]
        return own if len(own) >= hours else None

    runs = wait_for(over, seconds=120, what="the due times are over")
    assert runs is not None
    return [desk.json("show", run["id"]) for run in sorted(runs, key=lambda run: str(run["created_at"]))]


def test_schedule_is_changed_shown_and_set_back(desk: Desk, database: str) -> None:
    before = listed(desk, "nightly-backup")
    assert (before["when"], before["timezone"], before["differs"]) == ("daily 02:00", "UTC", ["declared active"])
    said = desk.ops(
        *("schedule", "set", "nightly-backup", "--at", "03:30", "--tz", "Asia/Manila", "--add-db", database),
        *("--resume", "--blackout", "Fri 18:00 to Mon 06:00", "--catch-up", "once within 4h"),
    ).fine()
    assert "when: daily 02:00 UTC -> daily 03:30 Asia/Manila" in said
    assert f"databases: odoo_prod, odoo_staging -> odoo_prod, odoo_staging, {database}" in said
    assert said.count("  next: ") == 3
    try:
        desk.ops("deploy", timeout=300).fine()
        after = listed(desk, "nightly-backup")
        assert after["parameters"] == before["parameters"] | {"databases": ["odoo_prod", "odoo_staging", database]}
        assert (after["catch_up"], after["blackouts"]) == ("once within 4h", ["Fri 18:00 to Mon 06:00"])
        assert after["differs"]
        assert len(after["forecast"]) == 14
        weekend = [due for due in after["forecast"] if due["blackout"]]
        assert len(weekend) == 6
        due = datetime.fromisoformat(weekend[0]["at"])
        desk.ops("schedule", "override", "nightly-backup", "--at", f"{due:%Y-%m-%dT%H:%M}", "--reason", "close").fine()
        freed = next(each for each in listed(desk, "nightly-backup")["forecast"] if each["at"] == weekend[0]["at"])
        assert freed["blackout"] is None
        assert freed["notes"][0].endswith(": close")
    finally:
        desk.ops("schedule", "reset", "nightly-backup").fine()
        restored = listed(desk, "nightly-backup")
        desk.ops("schedule", "set", "nightly-backup", "--pause").fine()  # as the room's fixture wants it
    assert (restored["when"], restored["timezone"], restored["parameters"]) == (
        "daily 02:00",
        "UTC",
        before["parameters"],
    )
    assert (restored["differs"], restored["state"]) == ([], "active")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "nightli", "--at", "3:00"), "no schedule 'nightli'. Did you mean nightly-backup?"),
        (("set", "nightly-backup", "--tz", "Manila"), "Did you mean Asia/Manila?"),
        (("set", "nightly-backup", "--cron", "0 0 30 2 *"), "never fires"),
        (("set", "nightly-backup", "--add-db", "postgres"), "hold no Odoo data"),
        (
            ("set", "nightly-backup", "--add-db", "odoo_prd"),
            "--add-db: there is no database 'odoo_prd'.",
        ),
        (("set", "nightly-backup"), "say what to change"),
        (("override", "nightly-backup", "--at", "2030-12-25T02:00", "--reason", " "), "--reason: must not be empty"),
        (("override", "nightly-backup", "--at", "2030-12-25T02:00", "--reason", "x"), "no blackout of nightly-backup"),
        (("override", "nightly-backup", "--at", "noon", "--reason", "x"), "expected date and time"),
        (("list", "--days", "0"), "expected 1 to 366"),
    ],
    ids=str,
)
def test_wrong_words_change_nothing(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    before = listed(desk, "nightly-backup")
    answer = desk.ops("schedule", *arguments)
    assert answer.code == 2
    assert said in answer.err
    after = listed(desk, "nightly-backup")
    assert (after["when"], after["parameters"], after["overrides"]) == (
        before["when"],
        before["parameters"],
        before["overrides"],
    )


def test_newest_missed_due_time_is_executed_and_the_others_are_cancelled_without_an_alert(
    desk: Desk, api: Api, hourly: Path
) -> None:
    assert listed(desk, DEPLOYMENT)["catch_up_default"] is True
    *older, newest = backlog(desk, api, hourly, hours=4)
    assert newest["status"] == "succeeded"
    assert len(older) == 3
    for run in older:
        assert (run["status"], run["error"]["type"]) == ("cancelled", "Superseded")
        assert "Superseded by the one due at" in run["events"][-1]["message"]
    assert "disk_space" not in str(desk.json("alerts")["alerts"])


def test_each_missed_due_time_is_executed_where_all_are_wanted(desk: Desk, api: Api, hourly: Path) -> None:
    desk.ops("schedule", "set", DEPLOYMENT, "--catch-up", "all").fine()
    runs = backlog(desk, api, hourly, hours=6)
    assert [run["status"] for run in runs] == ["succeeded"] * 6
    started = [run["started_at"] for run in runs]
    assert max(started[:2]) <= min(started[4:])  # the oldest first; the lane executes three at once, which may overtake
    assert any(event["message"].startswith("caught up: due at ") for event in runs[0]["events"])


def test_due_time_in_a_blackout_is_cancelled_and_a_run_by_hand_is_not(desk: Desk, api: Api, hourly: Path) -> None:
    desk.ops("schedule", "set", DEPLOYMENT, "--catch-up", "all", "--blackout", "daily 00:01 to 24:00").fine()
    runs = backlog(desk, api, hourly, hours=2)
    held = [run for run in runs if not str(run["created_at"]).startswith(f"{datetime.now(UTC):%Y-%m-%dT00:00}")]
    for run in held:
        assert (run["status"], run["error"]["type"]) == ("cancelled", "Blackout")
        assert "falls into daily 00:01 to 00:00" in run["events"][-1]["message"]
    by_hand = desk.ops("run", "disk_space", "--lane", "C", "-p", f"folder={desk.home}", "--wait")
    assert by_hand.code == 0
    assert "in a blackout now (daily 00:01 to 00:00); a run by hand starts all the same" in by_hand.err
