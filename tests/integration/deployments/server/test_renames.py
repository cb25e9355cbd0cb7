"""Deployments with names of before at a real Prefect server: renamed in place, and found by both names."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from pydantic import SecretStr
from sqlalchemy import Engine

from deployments.server.client import pages
from deployments.server.renames import rename_deployments
from opsdb.deployed import read_deployed, write_deployed
from opsdb.errors import OpsError
from opsdb.settings import Settings

NIGHTLY = IntervalSchedule(interval=timedelta(hours=24), timezone="UTC")


@pytest.fixture
def room(settings: Settings, prefect_room: Settings) -> Settings:
    """The running Prefect server with an ops database of this test alone."""
    return prefect_room.model_copy(update={"database_url": SecretStr(settings.ops_url)})


@pytest.fixture
def kind() -> str:
    return f"kind_{uuid4().hex}"


@pytest.fixture
def made(client: SyncPrefectClient, kind: str) -> UUID:
    """A runbook as the version before deployed it, with all that a person may have set."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    made = client.create_deployment(
        client.create_flow_from_name(kind),
        "lane-a",
        work_pool_name="lane-a",
        entrypoint="x.y",
        tags=["runbook"],
        schedules=[DeploymentScheduleCreate(slug="mine", schedule=NIGHTLY, active=True, parameters={"n": 1})],
    )
    client.update_deployment(made, DeploymentUpdate(parameters={"n": 2}, concurrency_limit=2))
    client.request("POST", "/deployments/{id}/schedule", path_params={"id": made}, json={})
    return made


def rename(room: Settings, engine: Engine) -> list[str]:
    with engine.connect() as db:
        known = read_deployed(db).keys()
        db.commit()
        return rename_deployments(room, db, known=known)


def runs_of(client: SyncPrefectClient, made: UUID) -> list[FlowRun]:
    own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[made]))
    return list(pages(client.read_flow_runs, flow_run_filter=own))


def everything(client: SyncPrefectClient, made: UUID) -> dict[str, Any]:
    """All that there is of a deployment and its runs, but its name and when it was changed."""
    found = client.read_deployment(made).model_dump(mode="json", exclude={"name", "updated"})
    runs = {str(run.id): (run.expected_start_time, run.state_name, run.work_queue_id) for run in runs_of(client, made)}
    return found | {"runs": runs}


def test_renamed_deployment_keeps_all_it_had_and_is_found_by_both_names(
    client: SyncPrefectClient, room: Settings, engine: Engine, kind: str, made: UUID
) -> None:
    client.create_flow_run_from_deployment(made)
    before = everything(client, made)
    assert len(before["runs"]) > 2
    with engine.begin() as db:
        write_deployed(db, f"{kind}/lane-a", {"tags": ["runbook"]})
    said = rename(room, engine)
    assert any(line.endswith("the old names work until the next release") for line in said)
    assert client.read_deployment(made).name == f"{kind}-lane-a"
    assert everything(client, made) == before
    for name in (f"{kind}/{kind}-lane-a", f"{kind}/lane-a"):
        assert client.read_deployment_by_name(name).id == made
    with pytest.raises(ObjectNotFound):
        client.read_deployment_by_name(f"{kind}/lane-b")
    with engine.connect() as db:
        assert read_deployed(db) == {f"{kind}/{kind}-lane-a": {"tags": ["runbook"]}}
    assert rename(room, engine) == []


@pytest.mark.parametrize("done", ["in Prefect", "in ops"])
def test_rename_that_was_killed_halfway_is_finished(  # noqa: PLR0917 - fixtures
    client: SyncPrefectClient, room: Settings, engine: Engine, kind: str, made: UUID, done: str
) -> None:
    """Each database is written in one transaction, so these are the two places to be killed at."""
    with engine.begin() as db:
        write_deployed(db, f"{kind}/{kind}-lane-a" if done == "in ops" else f"{kind}/lane-a", {"parameters": {}})
    if done == "in Prefect":
        with engine.connect() as db:
            rename_deployments(room, db, known=[])  # it is known by its tag; nothing is noted of it
            assert read_deployed(db).keys() == {f"{kind}/lane-a"}
    rename(room, engine)
    assert client.read_deployment(made).name == f"{kind}-lane-a"
    with engine.connect() as db:
        assert read_deployed(db) == {f"{kind}/{kind}-lane-a": {"parameters": {}}}


def test_deployment_of_somebody_that_has_the_new_name_keeps_all_but_that(
    client: SyncPrefectClient, room: Settings, engine: Engine, kind: str, made: UUID
) -> None:
    flow_id = client.read_deployment(made).flow_id
    own = client.create_deployment(flow_id, f"{kind}-lane-a", work_pool_name="lane-a", entrypoint="x.mine")
    waiting = client.create_flow_run_from_deployment(own)
    before = everything(client, own)
    said = "\n".join(rename(room, engine))
    assert f"{kind}/{kind}-lane-a was somebody's own deployment: it is called {kind}/{kind}-lane-a-own now" in said
    assert client.read_deployment(own).name == f"{kind}-lane-a-own"
    assert everything(client, own) == before
    assert [run.id for run in runs_of(client, own)] == [waiting.id]
    assert client.read_deployment(made).name == f"{kind}-lane-a"


def test_deployment_that_an_older_version_made_again_is_named_and_stays(
    client: SyncPrefectClient, room: Settings, engine: Engine, kind: str, made: UUID
) -> None:
    flow_id = client.read_deployment(made).flow_id
    ours = client.create_deployment(
        flow_id, f"{kind}-lane-a", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"]
    )
    with engine.begin() as db:
        for name in ("lane-a", f"{kind}-lane-a"):
            write_deployed(db, f"{kind}/{name}", {})
    assert any(line.startswith(f"{kind}/lane-a was made beside {kind}/{kind}-lane-a") for line in rename(room, engine))
    assert client.read_deployment_by_name(f"{kind}/lane-a").id == made
    assert client.read_deployment_by_name(f"{kind}/{kind}-lane-a").id == ours


def test_deployment_of_no_runbook_keeps_its_name(
    client: SyncPrefectClient, room: Settings, engine: Engine, kind: str, made: UUID
) -> None:
    client.update_deployment(made, DeploymentUpdate(tags=["mine"]))
    assert kind not in str(rename(room, engine))
    assert client.read_deployment(made).name == "lane-a"
    with engine.begin() as db:
        write_deployed(db, f"{kind}/lane-a", {})  # it is the room's, and somebody took the tag away
    rename(room, engine)
    assert client.read_deployment(made).name == f"{kind}-lane-a"


def test_database_that_refuses_is_named(room: Settings, engine: Engine) -> None:
    elsewhere = room.model_copy(update={"prefect_database": "postgres"})
    with engine.connect() as db, pytest.raises(OpsError, match="Prefect's database refuses"):
        rename_deployments(elsewhere, db, known=[])


def test_paging_gives_each_deployment_once(client: SyncPrefectClient, made: UUID) -> None:
    """Prefect sorts by name alone: which of equal ones stands on a page is not said. Names of now are unique."""
    flows = [client.create_flow_from_name(f"paged{number:02}_{uuid4().hex}") for number in range(20)]
    kinds = [client.read_flow(flow).name for flow in flows]
    for flow, kind in zip(flows, kinds, strict=True):
        for lane in "ab":
            client.create_deployment(flow, f"{kind}-lane-{lane}", work_pool_name="lane-a", entrypoint="x.y")
    seen: list[str] = []
    for offset in range(0, 10_000, 7):
        body = {"limit": 7, "offset": offset, "sort": "NAME_ASC"}
        page = client.request("POST", "/deployments/filter", json=body).json()
        seen += [one["name"] for one in page if one["name"].startswith("paged")]
        if len(page) < 7:
            break
    assert seen == sorted(f"{kind}-lane-{lane}" for kind in kinds for lane in "ab")
