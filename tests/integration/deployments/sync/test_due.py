"""Before when nobody starts a run: what the sync records of it, by the poll and by an event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, Resource
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Scheduled
from sqlalchemy import Engine, text

from deployments.sync.sync import Follower
from opsdb.settings import Settings

LATER = datetime(2036, 1, 1, tzinfo=UTC)
Work = Callable[[Follower], Awaitable[None]]


@pytest.fixture
def planned(client: SyncPrefectClient) -> FlowRun:
    """A run that somebody planned for 2036."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    flow = client.create_flow_from_name(f"kind-{uuid4()}")
    made = client.create_deployment(flow, "lane-a", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"])
    return client.create_flow_run_from_deployment(made, state=Scheduled(scheduled_time=LATER))


@pytest.fixture
def follow(client: SyncPrefectClient, engine: Engine, settings: Settings) -> Callable[[Work], None]:
    async def followed(work: Work) -> None:
        async with get_client() as asynchronous:
            await work(Follower(asynchronous, engine, settings))

    return lambda work: asyncio.run(followed(work))


def due(engine: Engine, run_id: UUID) -> tuple[datetime | None, datetime]:
    with engine.connect() as db:
        row = db.execute(text("SELECT due_at, created_at FROM ops.runs WHERE id = :id"), {"id": run_id}).one()
        return row.due_at, row.created_at


def state_event(run: FlowRun) -> Event:
    """The event of the state in which a run is. It does not say for when."""
    assert run.state is not None
    labels = {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.state-timestamp": run.state.timestamp.isoformat(),
        "prefect.state-type": run.state.type.value,
        "prefect.state-name": run.state.name or "",
    }
    return Event(id=run.state.id, event="prefect.flow-run.Scheduled", resource=Resource(labels))


def test_poll_records_when_a_run_is_due(planned: FlowRun, engine: Engine, follow: Callable[[Work], None]) -> None:
    follow(lambda follower: follower.poll(overlap=timedelta(seconds=10)))
    assert due(engine, planned.id) == (LATER, LATER)


def test_event_records_when_a_run_is_due_also_one_that_was_due_before(
    planned: FlowRun, client: SyncPrefectClient, engine: Engine, follow: Callable[[Work], None]
) -> None:
    async def told(follower: Follower) -> None:
        await follower._apply_event(state_event(planned))
        client.set_flow_run_state(planned.id, Scheduled(), force=True)
        await follower._apply_event(state_event(client.read_flow_run(planned.id)))
        assert (due(engine, planned.id)[0] or LATER) < LATER
        client.set_flow_run_state(planned.id, Scheduled(scheduled_time=LATER), force=True)
        await follower._apply_event(state_event(client.read_flow_run(planned.id)))

    follow(told)
    assert due(engine, planned.id) == (LATER, LATER)
