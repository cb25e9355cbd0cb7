"""`ops show` of a queued run, with what Prefect alone knows of its lane."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    temporary_settings,
)

from deployments.server import access
from opsdb.runs.runs import apply_states
from opsdb.runs.workers import write_worker_heartbeat
from opsdb.settings import Settings
from opsdb.tables import Lane
from tests.support.alerts_lab import Lab
from tests.support.children import free_port
from tests.support.commands import REPOSITORY, run_ops
from tests.support.recorded_runs import make_facts, make_states

NOTHING = "nothing holds it up: a worker takes it within seconds"


Show = Callable[..., str]


@pytest.fixture
def client(prefect_room: Settings) -> Iterator[SyncPrefectClient]:
    values = {
        PREFECT_API_URL: f"{access.ui_url(prefect_room)}/api",
        PREFECT_API_AUTH_STRING: access.read_secrets(prefect_room).prefect_auth_string,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True,
    }
    with temporary_settings(values), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def show(prefect_room: Settings, settings: Settings, lab: Lab) -> Show:
    """What `ops show` prints of a run, in a process of its own. Lane D has a worker."""
    ours = {"OPS_HOME": str(prefect_room.home), "OPS_DATABASE_URL": settings.ops_url, "COLUMNS": "300"}

    def shown(run_id: UUID, *options: str, port: int = prefect_room.prefect_port) -> str:
        with lab.engine.begin() as db:
            write_worker_heartbeat(db, name="w-1", host="w", lanes=["D"])
        env = access.inherited(os.environ) | ours | {"OPS_PREFECT_PORT": str(port)}
        return run_ops("show", str(run_id), *options, env=env, cwd=REPOSITORY).fine()

    return shown


def recorded(lab: Lab, run_id: UUID) -> None:
    """The run is queued in lane D."""
    facts = make_facts(id=run_id, lane=Lane.D, created_at=datetime.now(UTC))
    with lab.engine.begin() as db:
        apply_states(db, facts=facts, states=make_states("SCHEDULED"))


@pytest.fixture
def waits_for(lab: Lab, client: SyncPrefectClient, show: Show) -> Callable[[], list[str]]:
    """What `ops show --json` says of a run in queue `high` of lane D."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-d", type="process"))
    with suppress(ObjectAlreadyExists):
        client.create_work_queue("high", work_pool_name="lane-d")
    deployment = client.create_deployment(
        client.create_flow_from_name(f"kind-{uuid4()}"), "lane-d", work_pool_name="lane-d", entrypoint="x.y"
    )
    run_id = client.create_flow_run_from_deployment(deployment, work_queue_name="high").id
    recorded(lab, run_id)

    def shown() -> list[str]:
        found: list[str] = json.loads(show(run_id, "--json"))["waits_for"]
        return found

    return shown


def test_paused_lane_or_queue_is_said_with_how_to_go_on(
    waits_for: Callable[[], list[str]], client: SyncPrefectClient
) -> None:
    assert waits_for() == [NOTHING]
    queue = client.read_work_queue_by_name("high", work_pool_name="lane-d")
    client.update_work_queue(queue.id, is_paused=True)
    [line] = waits_for()
    assert line.startswith("queue high of lane D is paused in Prefect")
    assert "`prefect work-queue resume high --pool lane-d`" in line
    client.update_work_pool("lane-d", WorkPoolUpdate(is_paused=True))
    [line] = waits_for()
    assert line.startswith("lane D is paused in Prefect")
    assert "`prefect work-pool resume lane-d`" in line
    client.update_work_pool("lane-d", WorkPoolUpdate(is_paused=False))
    client.update_work_queue(queue.id, is_paused=False)
    assert waits_for() == [NOTHING]


def test_without_prefect_nothing_is_claimed(lab: Lab, show: Show) -> None:
    run_id = uuid4()
    recorded(lab, run_id)
    assert f"whether lane D is paused is not known: Prefect knows no run {run_id}" in show(run_id)
    said = show(run_id, port=free_port())
    assert "whether lane D is paused is not known: the room is not running: nobody listens on " in said
    assert NOTHING not in said
