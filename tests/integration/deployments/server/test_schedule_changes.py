"""Changes of schedules as the Prefect UI makes them, against a real server of the room."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule

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
