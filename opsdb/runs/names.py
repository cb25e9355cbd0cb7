"""Runs by what they are called: several have one name, so what somebody does with a run decides which is meant."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, select
from sqlmodel import col

from opsdb.errors import UsageError
from opsdb.near_names import did_you_mean
from opsdb.runs.selection import newest_first
from opsdb.states import APPROVAL, RunStatus
from opsdb.storable import storable
from opsdb.tables import Run, RunState

CANDIDATES = 5
OFFERED = 500
"""Of how many of the newest runs a name is offered that is near."""


class Verb(StrEnum):
    """The action for which a run is named."""

    CANCEL = "cancelled"
    RETRY = "retried"
    APPROVE = "approved"

    @property
    def applies(self) -> ColumnElement[bool]:
        """Whether it can be done with a row of `ops.runs`."""
        if self is Verb.CANCEL:
            return col(Run.finished_at).is_(None)
        if self is Verb.RETRY:
            return col(Run.status).in_((RunStatus.FAILED, RunStatus.CANCELLED))
        state = select(RunState).where(col(RunState.id) == col(Run.state_id), asks_for_approval())
        return col(Run.finished_at).is_(None) & state.exists()


def find_by_name(db: Connection, name: str, verb: Verb | None) -> UUID:
    """Find the run by `named_run`. Raises UsageError as that does, and when no run has the name."""
    meant = named_run(db, name, verb)
    if meant is None:
        newest = select(col(Run.name)).where(col(Run.name).is_not(None)).order_by(*newest_first()).limit(OFFERED)
        names = [str(one) for one in db.scalars(newest)]
        raise UsageError(
            f"RUN: no run has the name {name!r}, and it is not a run id.{did_you_mean(name, names)} "
            "Hint: give a name as `ops runs` shows it, or 4 or more characters of the start or end of an id"
        )
    run_id: UUID = meant.id
    return run_id


def named_run(db: Connection, name: str, verb: Verb | None) -> Row[*tuple[Any, ...]] | None:
    """The newest run of that name, its id, kind and status; with a verb the one that this can be done with, if any.

    Raises UsageError that lists them when several fit the verb.
    """
    columns = (col(Run.id), col(Run.kind), col(Run.created_at), col(Run.status))
    named = select(*columns).where(col(Run.name) == storable(name))
    newest = named.order_by(*newest_first())
    found = db.execute(newest.where(verb.applies).limit(CANDIDATES + 1)).all() if verb else []
    if len(found) > 1:
        listed = ", ".join(f"{row.id} ({row.status}, {row.created_at:%Y-%m-%d %H:%M})" for row in found[:CANDIDATES])
        more = " and more" if len(found) > CANDIDATES else ""
        raise UsageError(f"{name!r} names several runs that can be {verb}: {listed}{more}. Hint: give the id of one")
    return next(iter(found or db.execute(newest.limit(1)).all()), None)


def asks_for_approval() -> ColumnElement[bool]:
    """Whether a row of `ops.run_states` is a state in which a run waits for an approval."""
    return and_(col(RunState.type) == "PAUSED", col(RunState.message).startswith(APPROVAL, autoescape=True))
