"""What Prefect's automations do to schedules and runs: the record says it, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import Event, Resource
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled, Pending, Running
from sqlalchemy import Engine

from opsdb.runs.lookup import read_run
from opsdb.runs.prefect_runs import facts_of, state_of
from opsdb.runs.runs import apply_states
from tests.support.waiting import wait_for

pytestmark = pytest.mark.gate
Automate = Callable[..., str]


@pytest.fixture
def deployment(client: SyncPrefectClient) -> Iterator[UUID]:
    """A runbook in lane A that is due each night."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    flow = client.create_flow_from_name(f"kind-{uuid4()}")
    entry = DeploymentScheduleCreate(slug="nightly", schedule=CronSchedule(cron="0 2 * * *"))
    made = client.create_deployment(
        flow, "lane-a", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"], schedules=[entry]
    )
    yield made
    client.delete_deployment(made)


@pytest.fixture
def automate(client: SyncPrefectClient) -> Iterator[Automate]:
    """Has an automation do something now, about something of Prefect's. Returns the automation's id."""
    made: list[str] = []

    def act(about: str, **action: Any) -> str:
        wanted = f"asked-{uuid4()}"
        trigger = {"type": "event", "expect": [wanted], "posture": "Reactive", "threshold": 1}
        automation = {"name": wanted, "trigger": trigger, "actions": [action]}
        made.append(client.request("POST", "/automations/", json=automation).json()["id"])

        # a server's triggers see an automation only some time after it was made
        def asked() -> bool:
            event = Event(event=wanted, resource=Resource({"prefect.resource.id": about}))
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
            done = {
                "event": {"name": ["prefect.automation.action.executed", "prefect.automation.action.failed"]},
                "resource": {"id": [f"prefect.automation.{made[-1]}"]},
            }
            return bool(client.request("POST", "/events/filter", json={"filter": done}).json()["events"])

        wait_for(asked, what="the automation has acted")
        return made[-1]

    yield act
    for one in made:
        client.request("DELETE", "/automations/{id}", path_params={"id": one})


def planned(client: SyncPrefectClient, deployment: UUID) -> list[Any]:
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    )
    return sorted(run.expected_start_time for run in runs if run.auto_scheduled)


def recorded(client: SyncPrefectClient, engine: Engine, run_id: UUID) -> Any:
    """The run as the record has it after all that Prefect says."""
    run = client.read_flow_run(run_id)
    facts = facts_of(run, kind="stored_command")
    assert facts is not None
    with engine.begin() as db:
        apply_states(db, facts=facts, states=[state_of(state) for state in client.read_flow_run_states(run_id)])
        details = read_run(db, run_id)
    assert details is not None
    return details.view


def test_run_that_an_automation_cancels_says_so(
    client: SyncPrefectClient, deployment: UUID, automate: Automate, engine: Engine
) -> None:
    waiting, running = (client.create_flow_run_from_deployment(deployment).id for _ in range(2))
    client.set_flow_run_state(running, Pending(), force=True)
    client.set_flow_run_state(running, Running(), force=True)
    for run_id in (waiting, running):
        by = automate(f"prefect.flow-run.{run_id}", type="cancel-flow-run")
        if run_id is running:
            assert recorded(client, engine, run_id).run.status == "running"
            client.set_flow_run_state(run_id, Cancelled(message="its processes are gone"), force=True)  # as its worker
        view = recorded(client, engine, run_id)
        assert (view.run.status, view.message) == ("cancelled", f"Cancelled by Automation {by}")


def test_schedule_that_an_automation_pauses_and_resumes_is_planned_as_before(
    client: SyncPrefectClient, deployment: UUID, automate: Automate
) -> None:
    before = planned(client, deployment)
    assert before
    about, which = f"prefect.deployment.{deployment}", {"source": "selected", "deployment_id": str(deployment)}
    automate(about, type="pause-deployment", **which)
    assert (client.read_deployment(deployment).paused, planned(client, deployment)) == (True, [])
    automate(about, type="resume-deployment", **which)
    assert (client.read_deployment(deployment).paused, planned(client, deployment)) == (False, before)
