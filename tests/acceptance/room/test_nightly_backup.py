"""The nightly backup: each database once, in one session, for each tick of its schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

DEPLOYMENT = "nightly_backup/nightly-backup"


@pytest.fixture
def databases(desk: Desk, database: str) -> Iterator[list[str]]:
    """Two databases that can be backed up."""
    other = f"{database}_staging"
    with desk.database("postgres") as db:
        db.execute(f"CREATE DATABASE {other} TEMPLATE {database}".encode())
        yield [database, other]
        db.execute(f"DROP DATABASE {other} WITH (FORCE)".encode())


def scheduled(desk: Desk, api: Api, *, due_at: datetime, databases: list[str]) -> str:
    """A run as the scheduler makes it for a tick. It starts in some seconds, when all of it is told."""
    path = f"/deployments/{api.deployment(DEPLOYMENT)['id']}/create_flow_run"
    later = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": later}}
    run_id = str(api.post(path, parameters={"databases": databases}, state=state)["id"])
    with desk.database("prefect") as db:
        db.execute(
            "UPDATE flow_run SET auto_scheduled = true, expected_start_time = %s WHERE id = %s", [due_at, run_id]
        )
    return run_id


def sessions_named_daily_backup(desk: Desk) -> set[str]:
    return {each["id"] for each in desk.json("session", "list") if each["name"] == "Daily Backup"}


def completed(desk: Desk, session: str) -> dict[str, Any]:
    def shown() -> dict[str, Any] | None:
        document: dict[str, Any] = desk.json("session", "show", session)
        return document if document["status"] == "completed" else None

    found = wait_for(shown, seconds=40, what=f"session {session} is completed")
    assert found is not None
    return found


def test_started_by_hand_it_backs_up_each_database_in_lane_a(desk: Desk, databases: list[str]) -> None:
    run = desk.run(
        "nightly_backup", "-p", f"databases={','.join(databases)}", "-p", "retention_days=7", "-p", "restore_drill=true"
    )
    assert run["status"] == "succeeded", run
    assert run["result"]["runs"].keys() == set(databases)
    session = completed(desk, run["result"]["session"])
    assert (session["name"], session["triggered_by"], session["succeeded"]) == ("Daily Backup", "manual", 2)
    assert {(each["kind"], each["lane"], each["priority"]) for each in session["of"]} == {("odoo_db_backup", "A", 10)}
    assert {each["params"]["odoo_db"] for each in session["of"]} == set(databases)
    assert {each["params"]["retention_days"] for each in session["of"]} == {7}
    assert {each["result"]["drill"]["tables_compared"] for each in session["of"]} == {1}


def test_one_tick_started_twice_makes_one_session_and_one_backup_each(
    desk: Desk, api: Api, databases: list[str]
) -> None:
    due_at = datetime.now(UTC) - timedelta(minutes=1)
    runs = [scheduled(desk, api, due_at=due_at, databases=databases) for _ in range(2)]
    assert [api.wait_terminal(run)["state_type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    first, second = (desk.json("show", run)["result"] for run in runs)
    assert first == second
    session = completed(desk, first["session"])
    assert (session["triggered_by"], session["runs"], session["succeeded"]) == ("schedule", 2, 2)


def test_tick_that_comes_too_late_is_missed_and_starts_nothing(desk: Desk, api: Api, databases: list[str]) -> None:
    before = sessions_named_daily_backup(desk)
    run = scheduled(desk, api, due_at=datetime.now(UTC) - timedelta(hours=3), databases=databases)
    assert api.wait_terminal(run)["state_type"] == "FAILED"
    shown = desk.json("show", run)
    assert shown["error"]["type"] == "Missed"
    assert "180 minutes later" in shown["error"]["message"]
    assert f"ops run nightly_backup -p databases={','.join(databases)} " in shown["error"]["message"]
    assert [each["level"] for each in shown["events"] if each["message"].startswith("missed")] == ["warning"]
    assert sessions_named_daily_backup(desk) == before


def test_database_that_is_not_there_starts_nothing(desk: Desk, database: str) -> None:
    before = sessions_named_daily_backup(desk)
    run = desk.run("nightly_backup", "-p", f"databases={database},none_such,none_either")
    assert run["status"] == "failed"
    assert "'none_such'" in run["error"]["message"]
    assert "'none_either'" in run["error"]["message"]
    assert sessions_named_daily_backup(desk) == before


@pytest.mark.parametrize("wrong", ["[]", '["odoo; true"]', '["postgres"]', '["odoo", "odoo"]'])
def test_wrong_lists_of_databases_are_refused(desk: Desk, wrong: str) -> None:
    answer = desk.ops("run", "nightly_backup", "-p", f"databases={wrong}", "--wait")
    assert answer.code in (1, 2), answer
    assert "databases" in answer.err + answer.out


def test_schedule_that_is_deployed_again_keeps_its_pause_and_parameters_but_not_its_time(desk: Desk, api: Api) -> None:
    deployment = api.deployment(DEPLOYMENT)
    (schedule,) = deployment["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert schedule["schedule"]["timezone"] == "UTC"
    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    at_three = {"cron": "0 3 * * *", "timezone": "UTC"}
    api.patch(path, active=False, parameters={"retention_days": 14}, schedule=at_three)
    try:
        desk.ops("deploy", timeout=100).fine()
        (after,) = api.deployment(DEPLOYMENT)["schedules"]
        assert (after["active"], after["parameters"]) == (False, {"retention_days": 14})
        assert after["schedule"]["cron"] == "0 2 * * *"
    finally:
        api.patch(path, parameters={}, schedule=schedule["schedule"])


def test_prefect_plans_the_night_itself(desk: Desk, api: Api) -> None:
    deployment = api.deployment(DEPLOYMENT)
    (schedule,) = deployment["schedules"]
    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"

    def planned() -> list[dict[str, Any]]:
        found = api.post("/flow_runs/filter", deployments={"id": {"any_": [deployment["id"]]}}, limit=200)
        return [run for run in found if run["auto_scheduled"] and run["state_type"] == "SCHEDULED"]

    api.patch(path, active=True)  # which the fixture of the room took away
    try:
        runs = wait_for(planned, seconds=90, what="Prefect planned runs of the nightly backup")
        said = desk.ops("doctor", "--json").out
    finally:
        api.patch(path, active=False)
    due_at = datetime.fromisoformat(min(run["expected_start_time"] for run in runs))
    assert (due_at.hour, due_at.minute, due_at.utcoffset()) == (2, 0, timedelta(0))
    assert f"next scheduled for {due_at:%Y-%m-%d %H:%M} UTC" in said


def test_run_of_a_schedule_starts_by_itself(desk: Desk, api: Api) -> None:
    folder = {"folder": str(desk.home)}

    def succeeded() -> bool:
        runs = desk.json("runs", "--kind", "disk_space", "--lane", "B", "--status", "succeeded")
        return folder in [{"folder": run["params"]["folder"]} for run in runs]

    # Prefect plans once a minute, and what it plans is due within another one
    with api.schedule("disk_space/lane-b", folder, interval=60, timezone="UTC"):
        wait_for(succeeded, seconds=180, what="a run of the schedule succeeded")
