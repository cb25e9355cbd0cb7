"""Runs whose queue was deleted in Prefect: they get it back as soon as there is one of its name.

Prefect keeps such a run without a queue for good, also when the queue or its pool is made again, and its API cannot put
a run into a queue. Its database can: decision 31 says why that is where it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from opsdb.database import GONE, connect_to_prefect, first_line
from opsdb.runs.prefect_runs import priority_of, queue_of
from opsdb.settings import Settings
from opsdb.tables import Lane, Run

log = logging.getLogger(__name__)

PUT_BACK = text("""
UPDATE public.flow_run r SET work_queue_id = q.id, work_queue_name = q.name, updated = clock_timestamp()
FROM (SELECT q.id, q.name FROM public.work_queue q JOIN public.work_pool p ON p.id = q.work_pool_id
      WHERE p.name = :pool AND q.name = ANY(:queues) ORDER BY array_position(:queues, q.name) LIMIT 1) q
WHERE r.id = :id AND r.work_queue_id IS NULL AND r.state_type = 'SCHEDULED'
RETURNING q.name
""")


@dataclass(frozen=True)
class Place:
    """Where a run waits: a pool, and its queues there, the first that exists."""

    run_id: UUID
    pool: str
    queues: list[str]


def without_queue(flow_run: FlowRun) -> bool:
    """Whether a run waits where no worker looks."""
    waits = flow_run.state is not None and flow_run.state.is_scheduled()
    return waits and flow_run.work_queue_id is None and flow_run.deployment_id is not None


async def restore_queues(
    client: PrefectClient, engine: Engine, settings: Settings, flow_runs: Sequence[FlowRun]
) -> None:
    """Put runs without a queue into theirs, where it exists: of the lane that is recorded, or of their deployment.

    Raises httpx.HTTPError, and one of `database.GONE`.
    """
    lanes = await asyncio.to_thread(_recorded_lanes, engine, [run.id for run in flow_runs])
    pools: dict[UUID, str | None] = {}
    places = []
    for run in flow_runs:
        pool = lanes[run.id].pool if run.id in lanes else await _pool_of(client, run.deployment_id, known=pools)
        if pool is not None:
            wanted = [run.work_queue_name, queue_of(priority_of(run))]
            places.append(Place(run.id, pool, [name for name in wanted if name]))
    if places:
        try:
            await asyncio.to_thread(_put_back, settings, places)
        except GONE:
            raise
        except DBAPIError as error:  # no reason to follow no run at all
            log.error("runs without a queue stay so: Prefect's database refuses: %s", first_line(error))  # noqa: TRY400


async def _pool_of(client: PrefectClient, deployment_id: UUID | None, *, known: dict[UUID, str | None]) -> str | None:
    if deployment_id is not None and deployment_id not in known:
        known[deployment_id] = None
        with suppress(ObjectNotFound):
            known[deployment_id] = (await client.read_deployment(deployment_id)).work_pool_name
    return known.get(deployment_id) if deployment_id else None


def _recorded_lanes(engine: Engine, run_ids: Sequence[UUID]) -> dict[UUID, Lane]:
    with engine.connect() as db:
        rows = db.execute(select(col(Run.id), col(Run.lane)).where(col(Run.id).in_(run_ids)))
        return {row.id: Lane(row.lane) for row in rows}


def _put_back(settings: Settings, places: Sequence[Place]) -> None:
    engine = connect_to_prefect(settings, application="sync queues")
    try:
        with engine.begin() as db:
            for place in places:
                values = {"id": place.run_id, "pool": place.pool, "queues": place.queues}
                queue = db.scalar(PUT_BACK, values)
                if queue is not None:
                    log.warning("run %s put into queue %s of %s again", place.run_id, queue, place.pool)
    finally:
        engine.dispose()
