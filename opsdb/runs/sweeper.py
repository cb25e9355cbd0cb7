"""The sweeper's rules: which runs nobody will end any more, and what becomes of them. All ages by the database's clock.

A run is ended in two moves. It is fenced: from then on its process, should it live, has no effect any more. Then the
worker on its host kills what is left and says so (`reaped_at`), and only then, or when no worker answers within
`Timings.reap`, the verdict is written as a state of the run. `ops sync` pushes verdicts to Prefect.

A run whose process recorded its outcome is never lost: that outcome is the verdict when Prefect did not get it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row, case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.alerts.episodes import open_fenced
from opsdb.runs import deleted
from opsdb.runs.lookup import short_id
from opsdb.runs.notes import latest_step, note
from opsdb.runs.runs import apply_states, facts_of_row, recorded_states
from opsdb.settings import Settings
from opsdb.states import FenceReason, State, fold
from opsdb.tables import Run, RunEvent, RunState
from opsdb.timings import Timings
from opsdb.watch import Mark, keep_watch

CANDIDATES = text("""
SELECT r.id,
       CASE
         WHEN s.type = 'CANCELLING' AND s.recorded_at < now - make_interval(secs => :cancel) AND NOT (
           s.recorded_at > now - make_interval(secs => :put_back)
           AND greatest(r.heartbeat_at, :watching_since) > now - make_interval(secs => :lost)
           AND EXISTS (SELECT FROM ops.run_steps p WHERE p.run_id = r.id AND p.attempt = r.attempt
                       AND p.must_run_again AND p.status <> 'succeeded')) THEN 'Cancelled'
         WHEN r.deadline_at < now THEN 'DeadlineExceeded'
         WHEN s.type = 'CANCELLING' THEN NULL
         WHEN r.status = 'running' AND greatest(r.heartbeat_at, :watching_since) < now - make_interval(secs => :lost)
           THEN 'HeartbeatTimeout'
         WHEN r.status = 'claimed' AND prefect.updated_at > now - make_interval(secs => :outage)
              AND greatest(r.heartbeat_at, :watching_since, prefect.at) < now - make_interval(secs => :claim)
           THEN 'ClaimTimeout'
       END AS reason
FROM ops.runs r JOIN ops.run_states s ON s.id = r.state_id
     LEFT JOIN ops.sync_marks prefect ON prefect.name = :prefect,
     CAST(:now AS timestamptz) AS now
WHERE r.finished_at IS NULL AND r.fenced_at IS NULL AND r.outcome IS NULL
      AND (r.status IN ('claimed', 'running') OR s.type = 'CANCELLING')
""")

MESSAGES = {
    FenceReason.HEARTBEAT_TIMEOUT: "no heartbeat: its process or its host is gone, or was cut off for {lost:g} s",
    FenceReason.DEADLINE_EXCEEDED: "it ran past its deadline",
    FenceReason.CLAIM_TIMEOUT: "claimed, and not started for {claim:g} s: its worker is gone or stuck",
    FenceReason.CANCELLED: "cancelled; its own worker did not answer",
}


@dataclass(frozen=True)
class Fence:
    """A run that was fenced, and why."""

    run_id: UUID
    reason: str


def sweep(db: Connection, settings: Settings) -> list[Fence]:
    """Fence what is lost and write the verdict on what was fenced before. Two sweepers at once do no harm.

    Returns what this call fenced.
    """
    timings = settings.timings
    limits = {"lost": timings.lost, "claim": timings.claim, "cancel": timings.cancel, "put_back": timings.put_back}
    seen = keep_watch(db, Mark.SWEEPER, outage_seconds=timings.outage)
    watches = {
        "watching_since": seen.since,
        "now": seen.now,
        "prefect": Mark.PREFECT,
        "outage": timings.prefect_outage,
    }
    lost = db.execute(CANDIDATES, {**watches, **limits})
    fences = [Fence(row.id, row.reason) for row in lost if row.reason is not None]
    fenced = [fence for fence in fences if fence_run(db, run_id=fence.run_id, reason=fence.reason)]
    open_fenced(db, [fence.run_id for fence in fenced])
    for row in _ripe(db, timings):
        _conclude(db, row, message=MESSAGES.get(row.fence_reason, "").format(**limits))
    return fenced


def fence_run(db: Connection, *, run_id: UUID, reason: str, attempt: int | None = None) -> bool:
    """Take a run from its process. False when another was first, when the run is over, or when its outcome is recorded.

    A run that was to be cancelled is cancelled, whatever else became of it.
    """
    unfinished = [col(Run.id) == run_id, col(Run.finished_at).is_(None), col(Run.fenced_at).is_(None)]
    unfinished.append(col(Run.outcome).is_(None))  # its process may be gone: only the outcome has to be reported
    if attempt is not None:
        unfinished.append(col(Run.attempt) == attempt)
    state = select(col(RunState.type)).where(col(RunState.id) == col(Run.state_id)).scalar_subquery()
    values = {
        "fenced_at": func.clock_timestamp(),
        "fence_reason": case((state == "CANCELLING", FenceReason.CANCELLED), else_=reason),
    }
    return bool(db.execute(update(Run).where(*unfinished).values(**values)).rowcount)


def doomed(db: Connection, attempts: Mapping[UUID, int], *, exit_seconds: float) -> set[UUID]:
    """Of the given runs, with their attempts, those whose processes must not live. That of a finished run may exit."""
    latest = func.clock_timestamp() - timedelta(seconds=exit_seconds)
    over = col(Run.finished_at).is_not(None) & (col(Run.updated_at) < latest)
    rows = db.execute(
        select(col(Run.id), col(Run.attempt), (col(Run.fenced_at).is_not(None) | over).label("must_go")).where(
            col(Run.id).in_(attempts)
        )
    )
    return {
        row.id for row in rows if row.attempt > attempts[row.id] or (row.must_go and row.attempt == attempts[row.id])
    }


def judge_forced_end(db: Connection, *, run_id: UUID, attempt: int) -> None:
    """Say of a run whose process still worked when somebody set its end in Prefect what had not run.

    To be called when that process is gone. Only its own process makes a run succeed: one that was set to Completed is
    cancelled, and Prefect is corrected.
    """
    run = db.execute(select(Run).where(col(Run.id) == run_id).with_for_update()).one_or_none()
    if run is None or run.attempt != attempt or run.fenced_at or run.outcome:
        return
    if run.finished_at is None or run.started_at is None:
        return
    end = fold(recorded_states(db, run_id=run_id)).end
    if end is None or end.source != "prefect":
        return
    where = latest_step(db, run_id, attempt=attempt)
    message = (
        f"{end.name} was set in Prefect while it ran{where}, by somebody and not by its process, which was ended: "
        f"what was to come did not run. `ops retry {short_id(run_id)}` runs it again"
    )
    note(db, run_id=run_id, state=end, message=message, level="warning", data={"state": end.name})
    if end.type == "COMPLETED":
        verdict = State(
            id=uuid5(end.id, "by hand"),
            at=run.state_at + timedelta(microseconds=1),
            type="CANCELLED",
            name="Cancelled",
            message=f"it was set to {end.name} by hand{where}, and had not succeeded",
            source="room",
        )
        apply_states(db, facts=facts_of_row(run), states=[verdict])


def unconfirmed(db: Connection, *, host: str) -> list[Row[tuple[UUID, int, str]]]:
    """Fenced runs that were claimed on this host and whose processes nobody has looked for: `(id, attempt, worker)`."""
    return list(
        db.execute(
            select(col(Run.id), col(Run.attempt), col(Run.claimed_by)).where(
                col(Run.status).in_(("claimed", "running", "failed")),
                col(Run.fenced_at) > func.clock_timestamp() - timedelta(hours=1),
                col(Run.reaped_at).is_(None),
                col(Run.claimed_by).like(f"{host}-%"),
            )
        )
    )


def note_reaped(db: Connection, *, run_id: UUID, attempt: int) -> None:
    """The worker on the run's host says: none of the processes of this attempt is left."""
    db.execute(
        update(Run)
        .where(col(Run.id) == run_id, col(Run.attempt) == attempt, col(Run.reaped_at).is_(None))
        .values(reaped_at=func.clock_timestamp())
    )


def _ripe(db: Connection, timings: Timings) -> list[Row[tuple[Run]]]:
    """Fenced runs whose processes are gone, or whose host did not answer in time, and those of whose outcome Prefect
    has not heard, from a process that is gone or for too long; locked, so that one concludes."""
    waited = col(Run.fenced_at) < func.clock_timestamp() - timedelta(seconds=timings.reap)
    gone = col(Run.reaped_at).is_not(None)
    untold = col(Run.outcome_at) < func.clock_timestamp() - timedelta(seconds=timings.outcome)
    return list(
        db.execute(
            select(Run)
            .where(
                col(Run.finished_at).is_(None),
                (col(Run.fenced_at).is_not(None) & (gone | waited)) | (col(Run.outcome).is_not(None) & gone) | untold,
            )
            .with_for_update(skip_locked=True)
        )
    )


def _conclude(db: Connection, run: Row[tuple[Run]], *, message: str) -> None:
    if run.outcome == "succeeded":
        type_, name, message = "COMPLETED", "Completed", "its process recorded that it succeeded"
    elif run.outcome == "failed":
        type_, name, message = "FAILED", "Failed", str((run.error or {}).get("message") or "")
    elif run.deleted_at is not None and run.started_at is None:
        type_, name, message = "CANCELLED", deleted.NAME, deleted.NEVER_BEGAN
    else:
        type_, name = "CANCELLED" if run.fence_reason == FenceReason.CANCELLED else "CRASHED", run.fence_reason
        if run.fence_reason == FenceReason.CANCELLED and run.deleted_at is not None:
            message = "cancelled; Prefect does not have it any more"
    # in Prefect's time, as long as it has any: what Prefect says next is newer
    at = run.state_at + timedelta(microseconds=1) if run.deleted_at is None else deleted.ended_at(db, run)
    verdict = State(
        id=uuid5(run.state_id, name),
        at=at,
        type=type_,
        name=name,
        message=message,
        source="room",
    )
    apply_states(db, facts=facts_of_row(run), states=[verdict])
    if run.outcome is not None:
        return  # nothing was lost
    unconfirmed = run.reaped_at is None and run.claimed_by is not None
    db.execute(
        insert(RunEvent)
        .values(
            id=uuid5(verdict.id, "event"),
            run_id=run.id,
            level="error" if unconfirmed else "warning",
            message=f"{name}: {message}"
            + (f". No worker confirmed that its processes on {run.claimed_by} are gone: look there" * unconfirmed),
            data={"worker": run.claimed_by, "attempt": run.attempt, "reaped": run.reaped_at is not None},
        )
        .on_conflict_do_nothing()
    )
