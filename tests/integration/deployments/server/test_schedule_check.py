"""What `ops doctor` says of the schedules and the limit of a deployment in a real Prefect server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists

from blocks.check import Check
from deployments.server.schedule_check import check_schedules

HALF_HOUR = IntervalSchedule(interval=timedelta(minutes=30))
Checked = Callable[[], list[Check]]


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    """A runbook in lane A that fires each half hour."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    flow = client.create_flow_from_name(f"kind-{uuid4()}")
    often = DeploymentScheduleCreate(slug="often", schedule=HALF_HOUR, active=True)
    return client.create_deployment(flow, "x", work_pool_name="lane-a", entrypoint="x.y", schedules=[often])


@pytest.fixture
def checked(client: SyncPrefectClient, deployment: UUID) -> Checked:
    return lambda: list(check_schedules(client, "kind/x", client.read_deployment(deployment)))


def test_each_schedule_is_judged_by_its_own_runs(client: SyncPrefectClient, deployment: UUID, checked: Checked) -> None:
    [often] = checked()
    assert (often.subject, often.ok) == ("kind/x", True)
    client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment}, json={"min_runs": 1})
    assert checked()[0].found.startswith("next scheduled for ")
    more = [DeploymentScheduleCreate(slug="leap", schedule=CronSchedule(cron="0 0 30 2 *"), active=True)]
    client.create_deployment_schedules(deployment, more)
    found = {check.subject: check for check in checked()}
    assert found["kind/x, often"].ok
    assert "Prefect plans none of the schedules beside it" in found["kind/x, leap"].found
    assert "a day that its month has" in found["kind/x, leap"].advice


def test_what_somebody_paused_or_limited_is_named_with_the_command(
    client: SyncPrefectClient, deployment: UUID, checked: Checked
) -> None:
    [schedule] = client.read_deployment_schedules(deployment)
    client.update_deployment_schedule(deployment, schedule.id, active=False)
    assert "`ops schedule set kind/x --resume`" in checked()[0].found
    client.update_deployment_schedule(deployment, schedule.id, active=True)
    client.pause_deployment(deployment)
    assert checked()[0].found.startswith("is paused in Prefect: no schedule starts it, `ops run` does")
    client.resume_deployment(deployment)
    client.update_deployment(deployment, DeploymentUpdate(concurrency_limit=1))
    limit = f"deployment:{deployment}"
    assert [check.ok for check in checked()] == [True]
    client.update_global_concurrency_limit(limit, GlobalConcurrencyLimitUpdate(active=False))
    assert checked()[0].advice.endswith(f" prefect gcl update {limit} --enable`")
