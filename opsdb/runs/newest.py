"""`last` where a run's id is taken: the run that was asked for last, by whomever."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, or_, select
from sqlmodel import col

from opsdb.errors import UsageError
from opsdb.kinds.subjects import Kind
from opsdb.near_names import did_you_mean
from opsdb.runs.named import ABOUT
from opsdb.runs.selection import concerns, newest_first
from opsdb.storable import storable
from opsdb.tables import Run

LAST = "last"


def is_last(text: str) -> bool:
    """Whether a run is named as the newest one: `last`, or `last:NAME`."""
    return text == LAST or text.startswith(f"{LAST}:")


def newest_run(db: Connection, text: str) -> UUID:
    """The run that was asked for last; with `last:NAME` that of a kind, or about a database or host of that name.

    Raises UsageError where there is none.
    """
    name = storable(text.removeprefix(LAST).removeprefix(":"))
    newest = select(col(Run.id)).order_by(*newest_first()).limit(1)
    run_id: UUID | None = db.scalar(newest.where(or_(col(Run.kind) == name, concerns(name))) if name else newest)
    if run_id is None:
        if not name:
            raise UsageError("RUN: no run is recorded: `ops runs` lists them")
        known = {*db.scalars(select(col(Kind.kind))), *(str(word) for word, _ in db.exec_driver_sql(ABOUT))}
        raise UsageError(
            f"RUN: no run of the kind {name!r}, or about a database or host of that name, is recorded."
            f"{did_you_mean(name, known)} Hint: `ops runs` lists them"
        )
    return run_id
