"""What runs are called, beside a real `ops sync`: by what they do, unless somebody thought of a name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Completed, Running
from sqlalchemy import Engine, text

from opsdb.kinds.subjects import Subject, write_subjects
from tests.integration.deployments.sync.following import Syncing, eventually, wait_until_alive, walk


@pytest.fixture
def subject(engine: Engine, kind: str) -> None:
    """What `ops deploy` notes of the kind."""
    with engine.begin() as db:
        one = Subject(kind=kind, pattern="${params.db} · backup", defaults={"db": "odoo_prod"})
        write_subjects(db, {kind: one}, keep=False)


def recorded(engine: Engine, run_id: UUID) -> str | None:
    with engine.connect() as db:
        name: str | None = db.scalar(text("SELECT name FROM ops.runs WHERE id = :id"), {"id": run_id})
        return name


def called(client: SyncPrefectClient, run_id: UUID) -> str:
    return client.read_flow_run(run_id).name


@pytest.mark.usefixtures("subject")
def test_run_is_named_by_what_it_does_and_renaming_it_is_followed(
    client: SyncPrefectClient, deployment_id: UUID, engine: Engine, syncing: Syncing
) -> None:
    before = client.create_flow_run_from_deployment(deployment_id, parameters={"db": "odoo_test"})
    tags, parameters = before.tags, before.parameters
    ended = client.create_flow_run_from_deployment(deployment_id)
    walk(client, ended.id, Running(), Completed())
    with syncing():
        eventually(lambda: recorded(engine, before.id), "odoo_test · backup", 60)
        eventually(lambda: recorded(engine, ended.id), "odoo_prod · backup")
        wait_until_alive(engine)
        heard = client.create_flow_run_from_deployment(deployment_id, name="Awesome-Ajiaco")
        typed = client.create_flow_run_from_deployment(deployment_id, name="before the move")
        eventually(lambda: recorded(engine, heard.id), "odoo_prod · backup")
        eventually(lambda: recorded(engine, typed.id), "before the move")
        client.update_flow_run(typed.id, name="after the move")
        eventually(lambda: recorded(engine, typed.id), "after the move")
    after = client.read_flow_run(before.id)
    assert (after.name, after.tags, after.parameters) == ("odoo_test · backup", tags, parameters)
    assert [called(client, one.id) for one in (ended, heard, typed)] == ["odoo_prod · backup"] * 2 + ["after the move"]


@pytest.mark.usefixtures("subject")
def test_planned_runs_are_named_before_they_are_due(
    client: SyncPrefectClient, deployment_id: UUID, engine: Engine, syncing: Syncing
) -> None:
    daily = IntervalSchedule(interval=timedelta(days=1), anchor_date=datetime.now(UTC) + timedelta(hours=3))
    new = DeploymentScheduleCreate(schedule=daily, active=True, parameters={"db": "odoo_night"})
    client.create_deployment_schedules(deployment_id, [new])
    client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment_id}, json={})
    own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    planned = [run.id for run in client.read_flow_runs(flow_run_filter=own)]
    assert planned
    with syncing():
        eventually(lambda: {called(client, one) for one in planned}, {"odoo_night · backup"}, 60)
    assert [recorded(engine, one) for one in planned] == [None] * len(planned)


def test_run_of_a_kind_that_nobody_deployed_keeps_its_name(
    client: SyncPrefectClient, deployment_id: UUID, engine: Engine, syncing: Syncing
) -> None:
    run = client.create_flow_run_from_deployment(deployment_id)
    with syncing():
        eventually(lambda: recorded(engine, run.id), run.name, 60)
