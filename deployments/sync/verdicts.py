"""Prefect learns what the record knows better: a verdict of the sweeper's, another try, what somebody set by hand.

Pushing is repeated after every outage of either side until Prefect's own state follows; it does nothing where Prefect
has moved on meanwhile.
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
from prefect.states import Running, Scheduled
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from opsdb.runs.retries import read_retries
from opsdb.runs.runs import recorded_states
from opsdb.states import DIED, RunStatus, fold
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
    """What Prefect does not know yet: how the sweeper ended a run, that one that died may be tried again, and that one
    runs, or is over, of which somebody said something else."""
    return [*_verdicts(db), *_retries(db), *_corrections(db)]


async def push_state(client: PrefectClient, push: Push) -> bool:
    """Set the state in Prefect; False when Prefect does not have the run any more.

    Only one process may do that at a time: Prefect does not compare and set.
    """
    try:
        flow_run = await client.read_flow_run(push.run_id)
    except ObjectNotFound:
        return False
    if flow_run.state_id != push.follows:
        return True  # it moved on: its own process, another sync or an operator was first
    # not repeated by the client when only the answer was lost: the run may have begun again by then. We look again
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        await client.set_flow_run_state(push.run_id, push.state, force=True)
    log.warning("run %s set to %s in Prefect: %s", push.run_id, push.state.name, push.state.message)
    return True


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
            col(Run.deleted_at).is_(None),
            col(Run.updated_at) > func.clock_timestamp() - PUSH_WITHIN,
        )
    )
    return [
        Push(row.id, row.follows, State(type=StateType(row.type), name=row.name, message=row.message)) for row in rows
    ]


def _corrections(db: Connection) -> list[Push]:
    """Runs whose latest state was set by hand and is not what they are: they run, or are over.

    One that runs and is paused may be: that is how somebody asks that it be resumed. Else a worker would be offered a
    Scheduled one as often as it polls, and what is over would stand in Prefect as going on.
    """
    put_back = (col(Run.status) == RunStatus.RUNNING) & col(RunState.type).in_(("SCHEDULED", "PENDING"))
    over = col(Run.finished_at).is_not(None) & col(RunState.type).in_(("PENDING", "RUNNING", "PAUSED", "CANCELLING"))
    rows = db.execute(
        select(col(Run.id), col(Run.state_id), col(Run.finished_at), col(RunState.name))
        .join(RunState, col(Run.state_id) == col(RunState.id))
        .where(
            put_back | over,
            col(Run.deleted_at).is_(None),
            col(Run.updated_at) > func.clock_timestamp() - PUSH_WITHIN,
        )
    )
    found = []
    for row in rows.all():
        end = fold(recorded_states(db, run_id=row.id)).end
        if end is not None:
            state: State[Any] = State(type=StateType(end.type), name=end.name, message=end.message)
        else:
            state = Running(message=f"its process goes on, though {row.name} was set by hand")
        found.append(Push(row.id, row.state_id, state))
    return found


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
