"""Prefect learns what the sweeper decided: a verdict is pushed until Prefect's own state follows it.

Pushing is repeated after every outage of either side; it does nothing where Prefect has moved on meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Scheduled
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from opsdb.runs.retries import read_retries
from opsdb.states import DIED
from opsdb.tables import Run, RunState

log = logging.getLogger(__name__)

PUSH_WITHIN = timedelta(days=1)


@dataclass(frozen=True)
class Push:
    """A state for a run in Prefect, if the run still is in the state that this follows from."""

    run_id: UUID
    follows: UUID
    state: State[Any]


def read_unpushed(db: Connection) -> list[Push]:
    """What Prefect does not know yet: how the sweeper ended a run, and that one that died may be tried again."""
    return [*_verdicts(db), *_retries(db)]


async def push_state(client: PrefectClient, push: Push) -> None:
    """Set the state in Prefect. Only one process may do that at a time: Prefect does not compare and set."""
    try:
        flow_run = await client.read_flow_run(push.run_id)
    except ObjectNotFound:
        return
    if flow_run.state_id != push.follows:
        return  # it moved on: its own process, another sync or an operator was first
    # not repeated by the client when only the answer was lost: the run may have begun again by then. We look again
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        await client.set_flow_run_state(push.run_id, push.state, force=True)
    log.warning("run %s set to %s in Prefect: %s", push.run_id, push.state.name, push.state.message)


def _verdicts(db: Connection) -> list[Push]:
    """Verdicts that no state of Prefect's has followed yet."""
    before = aliased(RunState)
    known = (
        select(col(before.id))
        .where(col(before.run_id) == col(Run.id), col(before.source) == "prefect")
        .order_by(col(before.at).desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = db.execute(
        select(col(Run.id), known.label("follows"), col(RunState.type), col(RunState.name), col(RunState.message))
        .join(RunState, col(Run.state_id) == col(RunState.id))
        .where(
            col(RunState.source) == "room",
            col(RunState.name) != "Deleted",
            col(Run.updated_at) > func.clock_timestamp() - PUSH_WITHIN,
        )
    )
    return [
        Push(row.id, row.follows, State(type=StateType(row.type), name=row.name, message=row.message)) for row in rows
    ]


def _retries(db: Connection) -> list[Push]:
    """Runs that the room tries again, where Prefect knows that they died."""
    return [
        Push(
            retry.run_id,
            retry.state_id,
            Scheduled(name=retry.name, scheduled_time=retry.now, message=f"attempt {retry.attempt} {DIED}"),
        )
        for retry in read_retries(db)
        if retry.told
    ]
