"""From where a run was started, read from the message of its first state and from the schedule that planned it.

Prefect records no user and no client. What it keeps of the start is that state: its UI says there that it was the UI,
and the room's own commands say who typed them. Whoever has the password of the API can write any message.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Text, cast, func, select
from sqlmodel import col

from opsdb.plan_tables import SchedulePlan
from opsdb.tables import Run, RunState

_STARTED = re.compile(r"started by (?P<who>.+?) with `ops [a-z ]+`(?P<more>.*)")
_BY_RUN = "started by run "
_RUN = re.compile(r"run ([0-9a-f]{8}) of ")
_UI = ("Run from the Prefect UI", "Created from the Prefect UI")


def started_message(who: str, command: str, *, more: str = "") -> str:
    """The message of the first state of a run that this person started with a command, as in `ops run`."""
    return f"started by {who} with `{command}`{more}"


def started_by_run(name: str, kind: str) -> str:
    """The message of the first state of a run that another run started."""
    return f"{_BY_RUN}{name} of {kind}"


def starter_of(origin: str) -> str | None:
    """The short id of the run that started a run, by what `origin` says of it; None when no run did."""
    found = _RUN.match(origin)
    return found[1] if found else None


def origin(*, message: str | None, known: bool, tick: str | None, schedule: str | None) -> str:
    """From where a run was started, for people; empty where that is not known.

    `message` is that of its first state, and `known` whether there is one. `tick` says for which schedule and due time
    it was planned; `schedule` is that schedule's name, None when there is none any more.
    """
    if tick is not None:
        return f"schedule {schedule}" if schedule else "a schedule that is gone"
    text = message or ""
    if found := _STARTED.fullmatch(text):
        return f"command line by {found['who']}{found['more']}"
    if text.startswith(_BY_RUN):
        return text.removeprefix("started by ")
    if text.startswith(_UI):
        return "Prefect UI"
    if text:
        return f"Prefect UI or API: {text}"
    return "Prefect API" if known else ""


def origin_columns() -> list[Any]:
    """What `origin` needs to know of a row of `ops.runs`, as columns of a query over that table."""

    def first(column: Any) -> Any:
        states = select(column).where(col(RunState.run_id) == col(Run.id)).order_by(col(RunState.at)).limit(1)
        return states.correlate(Run).scalar_subquery()

    schedule = select(col(SchedulePlan.name)).where(
        cast(col(SchedulePlan.id), Text) == func.split_part(col(Run.tick), " ", 3)
    )
    return [
        first(col(RunState.message)).label("first_message"),
        first(col(RunState.id)).label("first_state"),
        schedule.limit(1).correlate(Run).scalar_subquery().label("schedule"),
    ]
