"""What the room is doing now, read from the ops tables alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, text
from sqlmodel import col

from opsdb.alerts.read import read_incidents
from opsdb.progress import Progress
from opsdb.runs.backups import LastProof, last_proofs
from opsdb.runs.lookup import RunView, select_runs
from opsdb.runs.names import asks_for_approval
from opsdb.runs.sessions import SessionProgress, list_sessions
from opsdb.runs.waiting import Waiting, turn, why_waiting
from opsdb.runs.workers import count_workers
from opsdb.states import RunStatus
from opsdb.tables import Lane, Run, RunState

MOST_RUNS = 200
EXPLAINED = 10
"""Of how many queued runs it is looked up why they wait."""
_STEPS = text("""
SELECT DISTINCT ON (run_id) run_id, name, progress FROM ops.run_steps
WHERE run_id = ANY(:ids) AND status = 'running' ORDER BY run_id, attempt DESC, index DESC
""")
_LIMITS = text("SELECT lane, slots FROM ops.lane_limits")


@dataclass(frozen=True, kw_only=True)
class Executing:
    """A run that executes, with its step."""

    view: RunView
    step: str | None
    progress: Progress | None
    """How far the step is; None where nothing is known, and for a run whose process is silent."""


@dataclass(frozen=True, kw_only=True)
class LaneBoard:
    """One lane: how many runs Prefect lets it execute (None for any number), who serves it, what runs."""

    lane: Lane
    slots: int | None
    workers: int
    executing: list[Executing]
    running: int
    """How many execute: `executing` has the first of them, if they are very many."""


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A run that waits; `waiting` is None for those that are far behind."""

    view: RunView
    waiting: Waiting | None


@dataclass(frozen=True, kw_only=True)
class Board:
    """What the room is doing, at one moment by the database's clock."""

    now: datetime
    lanes: list[LaneBoard]
    queue: list[Queued]
    """Those that go first."""
    waiting: int
    """How many there are in the queue."""
    approvals: list[RunView]
    sessions: list[SessionProgress]
    proofs: list[LastProof]
    alerts: list[dict[str, Any]]
    """Incidents that last, as `read_incidents` has them."""


def read_board(db: Connection, *, online_seconds: float, proofs: list[LastProof] | None = None) -> Board:
    """Everything of it. A worker counts as there that said so within the last `online_seconds`.

    `proofs` are those of a board that was read shortly before: they walk over all backups, and seldom change.
    """
    now: datetime = db.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    # each by itself: however many wait, what executes and what asks is seen
    asking = func.coalesce(asks_for_approval(), False)
    is_open, is_queued = col(Run.finished_at).is_(None), col(Run.status) == RunStatus.QUEUED
    oldest = (col(Run.created_at), col(Run.id))
    first = (turn()[1] > now, *turn())  # what is planned for later comes last
    executes = select_runs(db, is_open, ~is_queued, order=oldest, limit=MOST_RUNS)
    asks = select_runs(db, is_open, is_queued, asking, order=oldest, limit=MOST_RUNS)
    queue = select_runs(db, is_open, is_queued, ~asking, order=first, limit=MOST_RUNS)
    counts = _counts(db, is_open, is_queued, ~asking)
    steps = {row.run_id: row for row in db.execute(_STEPS, {"ids": [view.run.id for view in executes]})}
    limits: dict[str, int | None] = {lane: slots for lane, slots in db.execute(_LIMITS)}  # noqa: C416  # a Row is not a tuple for mypy
    workers = count_workers(db, seconds=online_seconds)
    return Board(
        now=now,
        lanes=[
            LaneBoard(
                lane=lane,
                slots=limits.get(lane.value),
                workers=workers.get(lane.value, 0),
                executing=[_executing(view, steps.get(view.run.id)) for view in executes if view.run.lane == lane],
                running=counts.get((lane, False), 0),
            )
            for lane in Lane
        ],
        queue=[
            Queued(view=view, waiting=why_waiting(db, view, online_seconds=online_seconds) if n < EXPLAINED else None)
            for n, view in enumerate(queue)
        ],
        waiting=sum(count for (_, queued), count in counts.items() if queued),
        approvals=asks,
        sessions=[one for one in list_sessions(db, limit=50) if one.status == "active" and one.unfinished],
        proofs=last_proofs(db) if proofs is None else proofs,
        alerts=[one for one in read_incidents(db) if one["resolved_at"] is None],
    )


def _counts(
    db: Connection, is_open: ColumnElement[bool], is_queued: ColumnElement[bool], not_asking: ColumnElement[bool]
) -> dict[tuple[Lane, bool], int]:
    """How many runs each lane has that execute (False), and that wait in its queue (True)."""
    rows = db.execute(
        select(col(Run.lane), is_queued, func.count())
        .outerjoin(RunState, col(RunState.id) == col(Run.state_id))
        .where(is_open, not_asking | ~is_queued)
        .group_by(col(Run.lane), is_queued)
    )
    return {(lane, queued): count for lane, queued, count in rows}


def _executing(view: RunView, step: Any) -> Executing:
    known = step is not None and step.progress and not view.silent
    return Executing(
        view=view, step=step.name if step is not None else None, progress=Progress.of(step.progress) if known else None
    )
