"""The nightly backup: each database once, in one session, for each tick of its schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

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
        db.execute(
            "UPDATE flow_run_state SET state_details = state_details || jsonb_build_object('scheduled_time', %s::text) "
            "WHERE flow_run_id = %s",
            [due_at.isoformat(), run_id],
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
    backups = run["result"]["backups"]
    assert {name: (of["outcome"], of["tries"]) for name, of in backups.items()} == dict.fromkeys(
        databases, ("succeeded", 1)
    )
    session = completed(desk, run["result"]["session"])
    assert {each["id"] for each in session["of"]} == {of["run"] for of in backups.values()}
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
    assert shown["error"]["message"].endswith(f"ops run nightly_backup -p databases={','.join(databases)}")
    assert [each["level"] for each in shown["events"] if each["message"].startswith("missed")] == ["warning"]
    assert shown["steps"] == []
    assert sessions_named_daily_backup(desk) == before


def test_database_that_is_not_there_keeps_no_other_back_and_is_backed_up_when_it_is(
    desk: Desk, databases: list[str]
) -> None:
    late = f"{databases[0]}_late"
    night = start(desk, [databases[0], late, databases[1]], lateness_minutes=4)
    session = str(uuid5(NAMESPACE_URL, f"ops:nightly-backup:{night}"))

    def tried() -> dict[str, Any] | None:
        document: dict[str, Any] = desk.json("session", "show", session)
        return document if (document["runs"], document["unfinished"]) == (3, 0) else None

    wait_for(lambda: session in sessions_named_daily_backup(desk), seconds=30, what="the night has begun")
    first = wait_for(tried, seconds=60, what="each database was tried")
    assert first is not None
    assert {each["params"]["odoo_db"]: each["status"] for each in first["of"]} == {
        databases[0]: "succeeded",
        late: "failed",
        databases[1]: "succeeded",
    }
    why = f" UTC: {late} failed, tried again at "
    shown = wait_for(lambda: waiting(desk, night, why), seconds=40, what="the night waits for another try")
    assert shown is not None
    assert (shown["status"], shown["postponed"]) == ("queued", True)
    [told] = [each["message"] for each in shown["events"] if each["level"] == "warning"]
    assert told.startswith(f"{late}: run ")
    assert f"there is no database '{late}'" in told
    with desk.database("postgres") as db:
        db.execute(f"CREATE DATABASE {late} TEMPLATE {databases[0]}".encode())
        try:
            over = wait_for(lambda: ended(desk, night), seconds=240, what="the night is over")
        finally:
            db.execute(f"DROP DATABASE {late} WITH (FORCE)".encode())
    assert over is not None
    assert over["status"] == "succeeded", over["error"]
    tries = {name: of["tries"] for name, of in over["result"]["backups"].items()}
    assert (tries[databases[0]], tries[databases[1]]) == (1, 1)
    assert tries[late] > 1
    after = desk.json("session", "show", session)
    assert after["runs"] == 2 + tries[late]
    assert after["succeeded"] == 3


@pytest.mark.soak  # its time is a minute at least
def test_database_that_never_is_there_fails_the_night_with_its_name_when_its_time_is_over(
    desk: Desk, databases: list[str]
) -> None:
    wanted = ["none_such", *databases]
    answer = desk.ops(
        *("run", "nightly_backup", "-p", f"databases={','.join(wanted)}", "-p", "lateness_minutes=1", "--wait")
    )
    assert answer.code == 1
    said = " ".join(answer.out.split())
    assert "waits until " in said
    assert "1 of 3 databases not backed up: none_such: run " in said
    assert "there is no database 'none_such'" in said
    assert "To back up what failed now: ops run nightly_backup -p databases=none_such " in said
    night = desk.json("runs", "--kind", "nightly_backup", "--limit", "1")[0]["id"]
    with desk.database("postgres") as db:
        db.execute(f"CREATE DATABASE none_such TEMPLATE {databases[0]}".encode())
        try:
            assert desk.ops("retry", night, "--wait").code == 0
        finally:
            db.execute(b"DROP DATABASE none_such WITH (FORCE)")
    backups = desk.json("show", night)["result"]["backups"]
    assert [backups[name]["tries"] for name in databases] == [1, 1]
    assert backups["none_such"]["outcome"] == "succeeded"


def test_night_that_is_cancelled_while_it_waits_is_over(desk: Desk, database: str) -> None:
    night = start(desk, [database, "none_such"], lateness_minutes=1)
    wait_for(lambda: waiting(desk, night, "none_such failed"), seconds=60, what="the night waits for another try")
    assert desk.ops("cancel", night, "--wait").code == 0
    assert desk.json("show", night)["status"] == "cancelled"


def start(desk: Desk, databases: list[str], *, lateness_minutes: int) -> str:
    """Start a night by hand, with pauses that are as short as its time. Returns its id."""
    options = ("-p", f"databases={','.join(databases)}", "-p", f"lateness_minutes={lateness_minutes}")
    return str(desk.json("run", "nightly_backup", *options)["id"])


def waiting(desk: Desk, run: str, why: str) -> dict[str, Any] | None:
    """What is shown of a run while it waits for this reason."""
    document: dict[str, Any] = desk.json("show", run)
    return document if any(why in line for line in document["waits_for"]) else None


def ended(desk: Desk, run: str) -> dict[str, Any] | None:
    """What is shown of a run that is over."""
    document: dict[str, Any] = desk.json("show", run)
    return document if document["finished_at"] else None


@pytest.mark.parametrize("wrong", ["[]", '["odoo; true"]', '["postgres"]', '["odoo", "odoo"]'])
def test_wrong_lists_of_databases_are_refused(desk: Desk, wrong: str) -> None:
    answer = desk.ops("run", "nightly_backup", "-p", f"databases={wrong}", "--wait")
    assert answer.code in (1, 2), answer
    assert "databases" in answer.err + answer.out


def test_what_somebody_set_of_a_schedule_stays_and_is_named_until_it_is_reset(desk: Desk, api: Api) -> None:
    deployment = api.deployment(DEPLOYMENT)
    (schedule,) = deployment["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert schedule["schedule"]["timezone"] == "UTC"
    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    at_three = {"cron": "0 3 * * *", "timezone": "UTC"}
    api.patch(path, active=False, parameters={"retention_days": 14}, schedule=at_three)
    try:
        said = " ".join(desk.ops("deploy", timeout=100).fine().split())
        (after,) = api.deployment(DEPLOYMENT)["schedules"]
        assert (after["active"], after["parameters"]) == (False, {"retention_days": 14})
        assert after["schedule"]["cron"] == "0 3 * * *"
        assert "time of schedule nightly is cron 0 3 * * *, timezone UTC, the file says cron 0 2 * * *" in said
        desk.ops("deploy", "--reset", DEPLOYMENT, timeout=100).fine()
        (after,) = api.deployment(DEPLOYMENT)["schedules"]
        assert (after["active"], after["parameters"], after["schedule"]["cron"]) == (
            *(True, schedule["parameters"]),
            "0 2 * * *",
        )
    finally:
        api.patch(path, active=False, parameters=schedule["parameters"], schedule=schedule["schedule"])


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
    with api.schedule("disk_space/disk_space-lane-b", folder, interval=60, timezone="UTC"):
        wait_for(succeeded, seconds=180, what="a run of the schedule succeeded")
