"""Changes of schedules as the Prefect UI makes them, against a real server of the room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from deployments.server.client import pages

DATABASES = {"databases": ["odoo_prod", "odoo_test"]}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"active": False}, DATABASES),  # the switch of the page
        ({"schedule": {"cron": "30 3 * * *"}}, DATABASES),
        ({"active": True, "parameters": {}}, {}),
        ({"parameters": {"databases": ["odoo_prod"]}}, {"databases": ["odoo_prod"]}),
    ],
    ids=["paused", "another time", "emptied", "changed"],
)
def test_change_of_a_schedule_keeps_what_it_does_not_name(
    client: SyncPrefectClient, change: dict[str, Any], left: dict[str, Any]
) -> None:
    made = client.create_deployment(
        client.create_flow_from_name(f"kind-{uuid4()}"),
        "nightly",
        schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="0 2 * * *"), parameters=DATABASES)],
    )
    [before] = client.read_deployment(made).schedules
    client.request(
        "PATCH",
        "/deployments/{id}/schedules/{schedule_id}",
        path_params={"id": made, "schedule_id": before.id},
        json=change,
    )
    [after] = client.read_deployment(made).schedules
    assert after.parameters == left
    assert (after.active, after.max_scheduled_runs) == (change.get("active", True), before.max_scheduled_runs)


@pytest.mark.promise(14)
@pytest.mark.parametrize(
    "change",
    ["another schedule", "another schedule away", "another one to a day that never comes", "the deployment", "a pause"],
)
def test_due_times_of_a_deployment_stand_once_whatever_somebody_changes_of_it(
    client: SyncPrefectClient, change: str
) -> None:
    anchor = datetime.now(UTC) - timedelta(hours=1)
    often = IntervalSchedule(interval=timedelta(seconds=1), anchor_date=anchor)
    made = client.create_deployment(
        client.create_flow_from_name(f"kind-{uuid4()}"),
        "often",
        schedules=[DeploymentScheduleCreate(slug="often", schedule=often)],
    )

    def other(number: int) -> UUID:
        entry = DeploymentScheduleCreate(slug=f"yearly-{number}", schedule=CronSchedule(cron="0 2 1 1 *"))
        return client.create_deployment_schedules(made, [entry])[0].id

    def due() -> list[int]:
        own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[made]))
        times = [run.expected_start_time for run in pages(client.read_flow_runs, flow_run_filter=own)]
        soon = datetime.now(UTC) + timedelta(seconds=20)
        return sorted(round((at - anchor).total_seconds()) for at in times if at and at < soon)

    begun = (datetime.now(UTC) - anchor).total_seconds()
    for number in range(6):
        if change == "the deployment":
            client.update_deployment(made, DeploymentUpdate(description=f"Number {number}."))
        elif change == "a pause":  # what was due meanwhile is not made up for
            client.pause_deployment(made)
            begun = (datetime.now(UTC) - anchor).total_seconds()
            client.request("POST", "/deployments/{id}/resume_deployment", path_params={"id": made})
        elif change == "another one to a day that never comes":
            client.update_deployment_schedule(made, other(number), schedule=CronSchedule(cron="0 0 30 2 *"))
        elif change == "another schedule":
            client.update_deployment_schedule(made, other(number), active=False)
        else:
            client.delete_deployment_schedule(made, other(number))
    found = [second for second in due() if second > begun]
    assert found, "none is planned"
    assert found == list(range(found[0], found[0] + len(found)))
    assert found[0] <= begun + 3
    assert found[-1] > begun + 15


def test_deleted_schedule_takes_no_run_of_another_with_it(client: SyncPrefectClient) -> None:
    hourly = IntervalSchedule(interval=timedelta(hours=1), anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
    entries = [DeploymentScheduleCreate(slug=slug, schedule=hourly) for slug in ("kept", "gone")]
    made = client.create_deployment(client.create_flow_from_name(f"kind-{uuid4()}"), "late", schedules=entries)
    ids = {one.slug: one.id for one in client.read_deployment_schedules(made)}
    since = datetime.now(UTC) - timedelta(hours=9)
    late = {"start_time": since.isoformat(), "end_time": datetime.now(UTC).isoformat(), "min_runs": 9}
    client.request("POST", "/deployments/{id}/schedule", path_params={"id": made}, json=late)

    def planned() -> dict[UUID, str]:
        own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[made]))
        runs = pages(client.read_flow_runs, flow_run_filter=own)
        return {run.id: run.created_by.display_value or "" for run in runs if run.created_by}

    before = planned()
    assert list(before.values()).count("gone") > 9
    client.delete_deployment_schedule(made, ids["gone"])
    assert planned() == {run: slug for run, slug in before.items() if slug == "kept"}
