"""`ops show` of a queued run, with what Prefect alone knows of its lane."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentUpdate,
    GlobalConcurrencyLimitUpdate,
    VariableCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyOptions, State
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Pending, Running, Scheduled

from cli.run.reasons import NOTHING
from cli.run.show import PATIENCE_SECONDS
from deployments.server import access
from opsdb.room_identity import VARIABLE
from opsdb.runs.lookup import short_id
from opsdb.runs.runs import apply_states
from opsdb.runs.workers import write_worker_heartbeat
from opsdb.settings import Settings
from opsdb.tables import Lane
from tests.support.alerts_lab import Lab
from tests.support.children import free_port
from tests.support.commands import REPOSITORY, run_ops
from tests.support.recorded_runs import make_facts, make_states

Show = Callable[..., str]


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


@dataclass(frozen=True)
class Waits:
    """A run in queue `high` of lane D, and what `ops show --json` says of it."""

    run_id: UUID
    deployment_id: UUID
    say: Callable[[], list[str]]

    @property
    def name(self) -> str:
        return short_id(self.run_id)


@pytest.fixture
def lane_d(client: SyncPrefectClient) -> Iterator[None]:
    """Lane D with its queue `high`, as they should be; gone afterwards."""
    with suppress(ObjectNotFound):  # of another test on this server
        client.delete_work_pool("lane-d")
    client.create_work_pool(WorkPoolCreate(name="lane-d", type="process"))
    client.create_work_queue("high", work_pool_name="lane-d")
    yield
    with suppress(ObjectNotFound):
        client.delete_work_pool("lane-d")


@pytest.fixture
def waits(lab: Lab, client: SyncPrefectClient, show: Show, lane_d: None) -> Waits:
    deployment = client.create_deployment(
        client.create_flow_from_name(f"kind-{uuid4()}"), "lane-d", work_pool_name="lane-d", entrypoint="x.y"
    )
    run_id = client.create_flow_run_from_deployment(deployment, work_queue_name="high").id
    recorded(lab, run_id)
    return Waits(run_id, deployment, lambda: json.loads(show(run_id, "--json"))["waits_for"])


def limit_deployment(client: SyncPrefectClient, waits: Waits, limit: int) -> str:
    """Give its deployment a limit. Returns the name by which commands know it."""
    client.update_deployment(waits.deployment_id, DeploymentUpdate(concurrency_limit=limit))
    return f"deployment:{waits.deployment_id}"


def test_paused_or_limited_lane_or_queue_is_said_with_how_to_go_on(waits: Waits, client: SyncPrefectClient) -> None:
    assert waits.say() == [NOTHING]
    queue = client.read_work_queue_by_name("high", work_pool_name="lane-d")
    client.update_work_queue(queue.id, is_paused=True)
    [line] = waits.say()
    assert line.startswith("queue high of lane D is paused in Prefect")
    assert " prefect work-queue resume high --pool lane-d`" in line
    client.update_work_pool("lane-d", WorkPoolUpdate(is_paused=True))
    assert waits.say()[0].startswith("lane D is paused in Prefect")
    assert " prefect work-pool resume lane-d`" in waits.say()[0]
    client.update_work_pool("lane-d", WorkPoolUpdate(is_paused=False, concurrency_limit=0))
    client.update_work_queue(queue.id, is_paused=False, concurrency_limit=0)
    pool, of_queue = waits.say()
    assert pool.startswith("lane D executes nothing: the concurrency limit of its work pool in Prefect is 0")
    assert " prefect work-pool set-concurrency-limit lane-d 3`" in pool
    assert of_queue.startswith("queue high of lane D executes nothing")
    assert " prefect work-queue clear-concurrency-limit high --pool lane-d`" in of_queue


def test_paused_lane_of_a_copy_is_not_to_be_resumed(waits: Waits, client: SyncPrefectClient) -> None:
    client.update_work_pool("lane-d", WorkPoolUpdate(is_paused=True))
    made = client.create_variable(
        VariableCreate(name=VARIABLE, value={"id": "x", "copy_of": "the room in /a on host b"})
    )
    try:
        [line] = waits.say()
        assert line.startswith("lane D is paused, because this is a copy of the room in /a on host b: leave it so")
        assert "--take-over --replace" in line
        assert "work-pool resume" not in line
    finally:
        client.delete_variable_by_name(made.name)


def test_full_lane_or_queue_is_said_as_prefect_counts(waits: Waits, client: SyncPrefectClient) -> None:
    running = client.create_flow_run_from_deployment(waits.deployment_id, work_queue_name="high", state=Running())
    queue = client.read_work_queue_by_name("high", work_pool_name="lane-d")
    client.update_work_queue(queue.id, concurrency_limit=1)
    assert waits.say()[0].startswith("queue high of lane D is full: its concurrency limit in Prefect is 1")
    client.update_work_queue(queue.id, concurrency_limit=2)
    client.update_work_pool("lane-d", WorkPoolUpdate(concurrency_limit=1))
    assert waits.say() == [
        "lane D is full (1 of 1, OPS_LANE_LIMIT here says 3: `ops deploy` sets it): `ops runs` lists them"
    ]
    client.set_flow_run_state(running.id, Completed(), force=True)
    assert waits.say() == [NOTHING]


def test_run_that_is_to_start_later_says_when_and_who_said_so(
    waits: Waits, lab: Lab, client: SyncPrefectClient, show: Show
) -> None:
    client.set_flow_run_state(
        waits.run_id, Scheduled(scheduled_time=datetime(2036, 1, 2, 3, 4, tzinfo=UTC)), force=True
    )
    [line] = waits.say()
    assert line.startswith("it was set to Scheduled for 2036-01-02 03:04:00 UTC, at 20")
    assert "in Prefect's UI or over its API" in line
    assert f"`ops cancel {waits.name}` ends it" in line
    client.set_flow_run_state(waits.run_id, Scheduled(), force=True)  # as the UI's button does
    assert waits.say() == [NOTHING]
    later: State[None] = Scheduled(scheduled_time=datetime(2036, 1, 2, 3, 4, tzinfo=UTC))
    planned = client.create_flow_run_from_deployment(waits.deployment_id, work_queue_name="high", state=later).id
    recorded(lab, planned)
    assert "it is planned for 2036-01-02 03:04:00 UTC, as was said when it was made" in show(planned)


def test_limit_of_its_deployment_is_said_with_who_takes_it(waits: Waits, client: SyncPrefectClient) -> None:
    limit = limit_deployment(client, waits, 1)
    assert waits.say() == [NOTHING]
    first = client.create_flow_run_from_deployment(waits.deployment_id, work_queue_name="high").id
    client.set_flow_run_state(first, Pending())
    client.set_flow_run_state(waits.run_id, Pending())
    assert client.read_flow_run(waits.run_id).state_name == "AwaitingConcurrencySlot"
    [line] = waits.say()
    assert line.startswith(f"its deployment lane-d executes 1 at once, by its own limit: {short_id(first)}: wait until")
    client.update_deployment(
        waits.deployment_id,
        DeploymentUpdate(concurrency_limit=1, concurrency_options=ConcurrencyOptions(collision_strategy="CANCEL_NEW")),
    )
    [line] = waits.say()
    assert "Prefect cancels what comes meanwhile" in line
    client.set_flow_run_state(first, Completed(), force=True)
    [line] = waits.say()
    assert line.startswith("it waited for its deployment lane-d, which executes 1 at once: it is tried again at ")
    client.update_global_concurrency_limit(limit, GlobalConcurrencyLimitUpdate(active_slots=1))
    [line] = waits.say()
    assert "counts 1 of 1 though none runs: a slot was never given back" in line
    assert f" prefect gcl update {limit} --active-slots 0`" in line


def test_deployment_that_starts_nothing_is_said_with_the_command(waits: Waits, client: SyncPrefectClient) -> None:
    limit = limit_deployment(client, waits, 1)
    client.update_global_concurrency_limit(limit, GlobalConcurrencyLimitUpdate(active=False))
    [line] = waits.say()
    assert "is switched off" in line
    assert f" prefect gcl update {limit} --enable`" in line
    client.update_global_concurrency_limit(limit, GlobalConcurrencyLimitUpdate(active=True, limit=0))
    [line] = waits.say()
    assert line.startswith("its deployment lane-d starts nothing: its own concurrency limit in Prefect is 0")
    client.update_global_concurrency_limit(limit, GlobalConcurrencyLimitUpdate(limit=1))
    client.pause_deployment(waits.deployment_id)
    assert waits.say() == [NOTHING]  # its schedules are paused, not its runs


def test_what_was_deleted_under_a_run_is_said(waits: Waits, client: SyncPrefectClient) -> None:
    queue = client.read_work_queue_by_name("high", work_pool_name="lane-d")
    client.delete_work_queue_by_id(queue.id)
    [line] = waits.say()
    assert line == (
        "its queue high was deleted in Prefect: no worker sees it: `ops deploy` makes the queue again and puts it there"
    )
    client.delete_work_pool("lane-d")
    pool, _queue = waits.say()
    assert pool == "lane D was deleted in Prefect: `ops deploy` makes it again"


def test_run_whose_deployment_was_deleted_says_so(waits: Waits, client: SyncPrefectClient) -> None:
    client.set_flow_run_state(waits.run_id, Running(), force=True)
    client.delete_deployment(waits.deployment_id)
    client.set_flow_run_state(waits.run_id, Scheduled(), force=True)
    [line] = waits.say()
    assert line.startswith("its deployment was deleted in Prefect: no worker can claim it")
    refused: OrchestrationResult[None] = client.set_flow_run_state(waits.run_id, Pending())
    assert refused.status is SetStateStatus.ABORT


def test_without_prefect_nothing_is_claimed(lab: Lab, show: Show) -> None:
    run_id = uuid4()
    recorded(lab, run_id)
    unknown = "what blocks it in Prefect is not known: "
    assert f"{unknown}Prefect knows no run {run_id}" in show(run_id)
    said = show(run_id, port=free_port())
    assert f"{unknown}the room is not running: nobody listens on " in said
    assert NOTHING not in said


def test_run_that_was_just_started_is_shown_as_soon_as_it_is_recorded(
    waits: Waits, lab: Lab, show: Show, client: SyncPrefectClient
) -> None:
    made = client.create_deployment(
        client.create_flow_from_name(f"kind-{uuid4()}"),
        "x",
        work_pool_name="lane-d",
        entrypoint="x.y",
        tags=["runbook"],
    )
    run_id = client.create_flow_run_from_deployment(made, work_queue_name="high").id
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(show, run_id)
        with suppress(TimeoutError):
            raise AssertionError(shown.result(timeout=0.9 * PATIENCE_SECONDS / 2))
        recorded(lab, run_id)
        assert str(run_id) in shown.result(30)


def test_run_that_is_not_recorded_says_where_prefect_has_it(
    prefect_room: Settings, settings: Settings, client: SyncPrefectClient, lane_d: None
) -> None:
    client.create_work_pool(WorkPoolCreate(name="somebodys", type="process"))
    flow = client.create_flow_from_name(f"kind-{uuid4()}")
    ours = {"OPS_HOME": str(prefect_room.home), "OPS_DATABASE_URL": settings.ops_url}
    env = access.inherited(os.environ) | ours | {"OPS_PREFECT_PORT": str(prefect_room.prefect_port)}

    def said(pool: str, *tags: str) -> str:
        made = client.create_deployment(flow, pool, work_pool_name=pool, entrypoint="x.y", tags=list(tags))
        run = client.create_flow_run_from_deployment(made)
        return run_ops("show", str(run.id), env=env, cwd=REPOSITORY).refused(2)

    try:
        assert "Prefect has it in the work pool somebodys, which is not a lane" in said("somebodys", "runbook")
        assert "Prefect has it as Scheduled: it appears in seconds" in said("lane-d", "runbook")
        assert "it is not a run of a runbook" in said("lane-d")
    finally:
        client.delete_work_pool("somebodys")
