"""What goes on in the room now, read from the ops tables alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from opsdb.alerts.read import read_incidents
from opsdb.progress import Progress
from opsdb.runs.backups import LastProof, last_proofs
from opsdb.runs.lookup import RunView, list_runs
from opsdb.runs.sessions import SessionProgress, list_sessions
from opsdb.runs.waiting import Waiting, why_waiting
from opsdb.runs.workers import count_workers
from opsdb.states import RunStatus
from opsdb.tables import Lane

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


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A run that waits; `waiting` is None for those that are far behind."""

    view: RunView
    waiting: Waiting | None


@dataclass(frozen=True, kw_only=True)
class Board:
    """What goes on, at one moment by the database's clock."""

    now: datetime
    lanes: list[LaneBoard]
    queue: list[Queued]
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
    unfinished = list_runs(db, unfinished=True, limit=MOST_RUNS)[::-1]
    executes = [view for view in unfinished if view.run.status is not RunStatus.QUEUED]
    waits = [view for view in unfinished if view.run.status is RunStatus.QUEUED]
    asks = [view for view in waits if view.waits_for_approval]
    queue = [view for view in waits if not view.waits_for_approval]
    steps = {row.run_id: row for row in db.execute(_STEPS, {"ids": [view.run.id for view in executes]})}
    limits: dict[str, int | None] = {lane: slots for lane, slots in db.execute(_LIMITS)}  # noqa: C416  # a Row is no tuple for mypy
    workers = count_workers(db, seconds=online_seconds)
    return Board(
        now=now,
        lanes=[
            LaneBoard(
                lane=lane,
                slots=limits.get(lane.value),
                workers=workers.get(lane.value, 0),
                executing=[_executing(view, steps.get(view.run.id)) for view in executes if view.run.lane == lane],
            )
            for lane in Lane
        ],
        queue=[
            Queued(view=view, waiting=why_waiting(db, view, online_seconds=online_seconds) if n < EXPLAINED else None)
            for n, view in enumerate(queue)
        ],
        approvals=asks,
        sessions=[one for one in list_sessions(db, limit=50) if one.status == "active" and one.unfinished],
        proofs=last_proofs(db) if proofs is None else proofs,
        alerts=[one for one in read_incidents(db) if one["resolved_at"] is None],
    )


def _executing(view: RunView, step: Any) -> Executing:
    known = step is not None and step.progress and not view.silent
    return Executing(
        view=view, step=step.name if step is not None else None, progress=Progress.of(step.progress) if known else None
    )
