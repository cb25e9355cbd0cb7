"""Prefect learns what the record knows better: a verdict of the sweeper's, another try, what somebody set by hand.

Pushing is repeated after every outage of either side until Prefect's own state follows; it does nothing where Prefect
has moved on meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Running, Scheduled
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from opsdb.runs.notes import ended_while_it_waited
from opsdb.runs.prefect_runs import state_of
from opsdb.runs.retries import read_retries
from opsdb.runs.runs import recorded_states
from opsdb.states import DIED, PUT_BACK, Life, RunStatus, fold, in_order
from opsdb.states import State as OpsState
from opsdb.tables import Run, RunState

log = logging.getLogger(__name__)

PUSH_WITHIN = timedelta(days=1)


@dataclass(frozen=True)
class Push:
    """A state for a run in Prefect, if the run still is in the state that this follows from."""

    run_id: UUID
    follows: UUID
    state: State[Any]
    by_hand: Callable[[Life], bool] | None = None
    """Whether that state was set by hand, by the whole history as Prefect has it; None where this does not matter."""


class Pushed(Enum):
    """What became of a push."""

    DONE = "Prefect says so, or it moved on: its own process, another sync or an operator was first"
    DELETED = "Prefect does not have the run any more"
    MISSED = "Prefect has states of it that are not recorded, and that say otherwise"


def read_unpushed(db: Connection) -> list[Push]:
    """What Prefect does not know yet: how the sweeper ended a run, that one that died may be tried again, and that one
    runs, or is over, of which somebody said something else."""
    return [*_verdicts(db), *_retries(db), *_corrections(db)]


async def push_state(client: PrefectClient, push: Push) -> Pushed:
    """Set the state in Prefect. Only one process may do that at a time: Prefect does not compare and set."""
    try:
        flow_run = await client.read_flow_run(push.run_id)
    except ObjectNotFound:
        return Pushed.DELETED
    if flow_run.state_id != push.follows:
        return Pushed.DONE
    if push.by_hand:
        history = await client.read_flow_run_states(push.run_id)
        if not history or not push.by_hand(fold(state_of(state) for state in history)):
            return Pushed.MISSED
    # not repeated by the client when only the answer was lost: the run may have begun again by then. We look again
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        await client.set_flow_run_state(push.run_id, push.state, force=True)
    log.warning("run %s set to %s in Prefect: %s", push.run_id, push.state.name, push.state.message)
    return Pushed.DONE


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
    """Runs whose latest state was set by hand and is not what they are.

    A run that runs and is paused may be: that is how somebody asks that it be resumed. Else a worker would be offered a
    Scheduled one as often as it polls, what is over would stand in Prefect as running, and what nobody executes would
    never start.
    """
    latest = col(RunState.type)
    put_back = (col(Run.status) == RunStatus.RUNNING) & latest.in_(("SCHEDULED", "PENDING"))
    over = col(Run.finished_at).is_not(None) & latest.in_(("PENDING", "RUNNING", "PAUSED", "CANCELLING"))
    never_ran = (col(Run.status) == RunStatus.CANCELLED) & (latest == "COMPLETED")
    unclaimed = (
        (col(Run.status) == RunStatus.RUNNING)
        & (latest == "RUNNING")
        & col(Run.claimed_at).is_(None)
        & col(Run.claimed_by).is_(None)
        & col(Run.deadline_at).is_(None)
    )
    # whoever claims says so in the state's message
    nobodys_claim = (col(Run.status) == RunStatus.CLAIMED) & (latest == "PENDING") & col(Run.claimed_by).is_(None)
    rows = db.execute(
        select(col(Run.id), col(Run.state_id))
        .join(RunState, col(Run.state_id) == col(RunState.id))
        .where(
            put_back | over | never_ran | unclaimed | nobodys_claim,
            col(Run.deleted_at).is_(None),
            col(Run.updated_at) > func.clock_timestamp() - PUSH_WITHIN,
        )
    )
    now: datetime = db.execute(select(func.clock_timestamp())).scalar_one()  # as in `read_retries`
    found = []
    for row in rows.all():
        history = in_order(recorded_states(db, run_id=row.id))
        found += _correct(row.id, fold(history), history, now=now)
    return found


def _correct(run_id: UUID, life: Life, history: Sequence[OpsState], *, now: datetime) -> list[Push]:
    """What Prefect should say of a run with this history; nothing where nobody can tell."""
    latest, before = history[-1], history[-2] if len(history) > 1 else None
    if (end := life.end) is not None and life.status is RunStatus.CANCELLED and end.type == "COMPLETED":
        cancelled: State[Any] = Cancelled(message=ended_while_it_waited(end.name, attempt=life.attempt))
        return [Push(run_id, latest.id, cancelled, by_hand=lambda known: known.status is RunStatus.CANCELLED)]
    if end is not None:
        return [Push(run_id, latest.id, State(type=StateType(end.type), name=end.name, message=end.message))]
    if latest.type != "RUNNING" and life.status is RunStatus.RUNNING:
        goes_on: State[Any] = Running(message=f"its process keeps running, though {latest.name} was set by hand")
        return [Push(run_id, latest.id, goes_on, by_hand=lambda known: known.status is RunStatus.RUNNING)]
    if before is None or before.waits_for_approval:
        return []  # its approval would be lost: it fails, and can be retried from where it was
    reason = f"{latest.name} was set while no worker had claimed it, and nothing of it ran"
    due = [state.due_at for state in history if state.type == "SCHEDULED" and state.due_at]
    waits: State[Any] = Scheduled(scheduled_time=max([now, *due[-1:]]), message=f"{PUT_BACK}{reason}")
    nobodys: Callable[[Life], bool] = (
        (lambda known: known.claimed_by is None)
        if latest.type == "PENDING"
        else (lambda known: known.claimed_at is None)
    )
    return [Push(run_id, latest.id, waits, by_hand=nobodys)]


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
