"""What the states of a run mean for people, as events of the run: approvals, rewritten ends, states set by hand."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.runs.lookup import short_id
from opsdb.schedules.rules import TickEnd
from opsdb.states import NEVER_RESUMED, RESUMING, SWITCHED_OFF, Disregarded, Life, State, in_order
from opsdb.storable import storable
from opsdb.tables import RunEvent, RunStep


def ended_while_it_waited(name: str, *, attempt: int) -> str:
    """What becomes of a run that somebody marks as ended while it waits, in a state of that name."""
    if attempt == 1:
        return f"{name}{_BY_HAND}before it started: nothing of it ran"
    return f"{name}{_BY_HAND}while it waited: what it did before that stands, and nothing ran since"


_BY_HAND = " was set in Prefect "


def note_states(db: Connection, *, run_id: UUID, life: Life, known: Sequence[State], added: Collection[UUID]) -> None:
    """Record what the `added` ones of all `known` states, oldest first, say to people."""
    for before, after in rewrites(known):
        ours = after.source == "room" or (after.message or "").startswith(before.name + _BY_HAND)
        if not ours and (after.id in added or before.id in added):
            message = f"Prefect rewrote {before.name} to {after.name}"
            data = {"before": before.name, "after": after.name, "message": after.message}
            note(db, run_id=run_id, state=after, message=message, level="warning", data=data)
    for before, after in approvals(known):
        if after.name == RESUMING and (after.id in added or before.id in added):
            note(db, run_id=run_id, state=after, message=after.approving)
    for state in known:
        if state.puts_back and state.id in added:
            note(db, run_id=run_id, state=state, message=state.message or "", level="warning")
        if state.status.terminal and state.name in list(TickEnd) and state.id in added:
            level = "warning" if TickEnd(state.name).is_failure else "info"
            note(db, run_id=run_id, state=state, message=state.message or state.name, level=level)
        if state.status.terminal and state.name == SWITCHED_OFF and state.id in added:
            note(db, run_id=run_id, state=state, message=state.message or state.name, level="warning")
    for one in life.disregarded:
        if one.state.id in added:
            message = _disregarded(db, run_id, one, attempt=life.attempt)
            note(db, run_id=run_id, state=one.state, message=message, level="warning", data=_said(one.state))
    if (end := life.end) is not None and end.id in added and ended_unclaimed(life, end):
        message = ended_while_it_waited(end.name, attempt=life.attempt)
        note(db, run_id=run_id, state=end, message=message, level="warning", data=_said(end))


def note(
    db: Connection,
    *,
    run_id: UUID,
    state: State,
    message: str,
    level: str = "info",
    data: Mapping[str, Any] | None = None,
) -> None:
    """Record what a state means for people: one event for it, however often it is reported."""
    values = {
        "id": state.id,
        "run_id": run_id,
        "level": level,
        "message": storable(message),
        "data": storable(data or {}),
    }
    db.execute(insert(RunEvent).values(values).on_conflict_do_nothing())


def ended_unclaimed(life: Life, end: State) -> bool:
    """Whether somebody set the end of a run that no worker had. That it was cancelled needs no explanation."""
    by_hand = end.source == "prefect" and not NEVER_RESUMED.fullmatch(end.message or "")
    return by_hand and end.type != "CANCELLED" and life.claimed_at is None and life.started_at is None


def latest_step(db: Connection, run_id: UUID, *, attempt: int) -> str:
    """The step that an attempt came to, as the end of a sentence: ` in step 3 (load)`; empty before the first."""
    step = db.execute(
        select(col(RunStep.index), col(RunStep.name))
        .where(col(RunStep.run_id) == run_id, col(RunStep.attempt) == attempt)
        .order_by(col(RunStep.index).desc())
        .limit(1)
    ).one_or_none()
    return f" in step {step.index} ({step.name})" if step else ""


def _disregarded(db: Connection, run_id: UUID, one: Disregarded, *, attempt: int) -> str:
    name, run = one.state.name, short_id(run_id)
    if one.status.terminal:
        return f"{name} was set in Prefect after its end: it stays {one.status}. `ops retry {run}` runs it again"
    where = latest_step(db, run_id, attempt=attempt)
    return f"{name} was set in Prefect while it ran{where}: its process keeps running. `ops cancel {run}` ends it"


def _said(state: State) -> dict[str, Any]:
    return {"state": state.name, "message": state.message}


def rewrites(states: Iterable[State]) -> list[tuple[State, State]]:
    """The pairs in which one terminal state was overwritten by another, oldest first.

    Prefect's state that follows a verdict of the room's, as it should, overwrites nothing.
    """
    ordered = in_order(states)
    return [
        (before, after)
        for before, after in itertools.pairwise(ordered)
        if before.status.terminal
        and after.status.terminal
        and not (before.source == "room" and after.status is before.status)
    ]


def approvals(states: Iterable[State]) -> list[tuple[State, State]]:
    """The pairs of a state that waited for an approval and the one that followed, whatever that was, oldest first."""
    return [(before, after) for before, after in itertools.pairwise(in_order(states)) if before.waits_for_approval]
