"""Reading what is recorded of runs, for the people who ask."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from sqlalchemy import ColumnElement, Connection, Row, RowMapping, Text, and_, case, cast, func, or_, select
from sqlalchemy.exc import DataError, ProgrammingError
from sqlmodel import col

from opsdb.database import connect, first_line, reachable
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.names import Verb, asks_for_approval, find_by_name, named_run
from opsdb.runs.newest import is_last, newest_run
from opsdb.runs.origins import origin, origin_columns
from opsdb.runs.selection import concerns, created_since
from opsdb.schema import Table
from opsdb.settings import Settings
from opsdb.states import POSTPONED, RunStatus
from opsdb.storable import storable
from opsdb.tables import Artifact, Lane, Run, RunEvent, RunState, RunStep, Session, StepStatus
from opsdb.timings import Timings

T = TypeVar("T", bound=Table)

CANDIDATES = 5
SHORT = 8
_ID = re.compile(r"[0-9a-f]{4,32}")
SILENT_SECONDS = 3 * Timings().heartbeat
"""How old the heartbeat of a run may be whose steps are still shown as running."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as it was recorded at `now`, which is the database's clock."""

    run: Run
    session: str
    now: datetime
    waits_for_approval: bool
    postponed: bool = False
    """Whether it ended its process until a time of its own choice, which has not come or was not noticed."""
    message: str = ""
    """That of its latest state; of one that was cancelled, who did that."""
    origin: str = ""
    """From where it was started; empty where that is not known."""

    @property
    def queue_seconds(self) -> float | None:
        """From when it was asked for, or due, to its start, or to now; None for a later attempt."""
        if self.run.attempt > 1:
            return None
        until = self.run.started_at or self.run.finished_at or self.now
        asked = [at for at in (self.run.created_at, self.run.due_at) if at is not None and at <= until]
        return (until - max(asked, default=until)).total_seconds()

    @property
    def silent(self) -> bool:
        """Whether its process has written no heartbeat for a while."""
        beat = self.run.heartbeat_at
        return beat is None or (self.now - beat).total_seconds() > SILENT_SECONDS

    @property
    def duration_seconds(self) -> float | None:
        """From the start of the latest attempt to its end, or to now; None when it has not started."""
        if self.run.started_at is None:
            return None
        return max(0.0, ((self.run.finished_at or self.now) - self.run.started_at).total_seconds())


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """Everything that is recorded of one run. Lists are in the order in which things happened."""

    view: RunView
    steps: list[RunStep]
    events: list[RunEvent]
    artifacts: list[Artifact]
    states: list[RunState]

    def steps_of(self, attempt: int) -> list[RunStep]:
        """The steps of one attempt."""
        return [step for step in self.steps if step.attempt == attempt]


def short_id(run_id: UUID) -> str:
    """What people call a run: the end of its id. Runs of a schedule are UUIDv7: their ids all begin with the time."""
    return run_id.hex[-SHORT:]


@contextmanager
def reading(settings: Settings, *, statement_seconds: float = 30) -> Iterator[Connection]:
    """A read-only view of the ops database at one moment. Raises RoomUnreachableError that says what to do."""
    engine = connect(settings, application="cli", statement_seconds=statement_seconds)
    try:
        with reachable(), engine.connect() as db:
            yield db.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    except (ProgrammingError, DataError, psycopg.ProgrammingError, psycopg.DataError) as error:
        raise RoomUnreachableError(
            f"the ops database is not what this version needs ({first_line(error)}): `ops db upgrade` brings it there."
        ) from error
    finally:
        engine.dispose()


def list_runs(
    db: Connection,
    *,
    lane: Lane | None = None,
    status: RunStatus | None = None,
    kind: str | None = None,
    session: str | None = None,
    since: timedelta | datetime | None = None,
    about: str | None = None,
    unfinished: bool = False,
    limit: int = 20,
) -> list[RunView]:
    """The newest runs that fit all filters.

    `session` is the name or the id of one, or 4 or more characters of the id's start or end; `about` names a database,
    a host or whatever else their parameters name.
    """
    wanted = _views().order_by(col(Run.created_at).desc(), col(Run.id).desc()).limit(limit)
    if lane is not None:
        wanted = wanted.where(col(Run.lane) == lane)
    if status is not None:
        wanted = wanted.where(col(Run.status) == status)
    if kind is not None:
        wanted = wanted.where(col(Run.kind) == kind)
    if session is not None:
        wanted = wanted.where(session_fits(session))
    if since is not None:
        wanted = wanted.where(created_since(since))
    if about is not None:
        wanted = wanted.where(concerns(about))
    if unfinished:
        wanted = wanted.where(col(Run.finished_at).is_(None))
    return [_view(row) for row in db.execute(wanted).mappings()]


def select_runs(db: Connection, *wanted: ColumnElement[bool], order: Sequence[Any], limit: int) -> list[RunView]:
    """The first runs, in this order, of which all that is wanted is true: of `Run`, and `RunState`, its latest."""
    return [_view(row) for row in db.execute(_views().where(*wanted).order_by(*order).limit(limit)).mappings()]


def find_run(db: Connection, text: str, verb: Verb | None = None) -> UUID:
    """The run that `text` means: `last`, its id, four or more characters of the id's start or end, or its name.

    Of several of one name it is the newest, or with a verb the one that this can be done with. Raises UsageError that
    lists the candidates, also where it is the name of one and a part of the id of another.
    """
    if is_last(text):
        return newest_run(db, text)
    digits = _digits(text)
    if digits is None:
        return find_by_name(db, text, verb)
    fits = col(Run.id) == UUID(digits) if len(digits) == 32 else id_fits(col(Run.id), digits)
    found: Sequence[Row[*tuple[Any, ...]]] = db.execute(
        select(col(Run.id), col(Run.kind), col(Run.status))
        .where(fits)
        .order_by(col(Run.created_at).desc())
        .limit(CANDIDATES + 1)
    ).all()
    named = named_run(db, text, verb) if len(digits) < 32 else None  # `feed` and `2026-11-30` may be names, too
    if named is not None and named.id not in {row.id for row in found}:
        found = [named, *found]
    if not found:
        raise UsageError(
            f"no run is recorded under {text!r}: `ops runs` lists them. One just started appears in seconds"
        )
    if len(found) > 1:
        listed = ", ".join(f"{row.id} ({row.kind}, {row.status})" for row in found[:CANDIDATES])
        more = " and more" if len(found) > CANDIDATES else ""
        raise UsageError(f"{text!r} fits more than one run: {listed}{more}")
    run_id: UUID = found[0].id
    return run_id


def id_fits(column: Any, digits: str) -> ColumnElement[bool]:
    """Whether an id starts or ends with these hex digits."""
    id_text = func.replace(cast(column, Text), "-", "")
    return or_(id_text.startswith(digits), id_text.endswith(digits))


def session_fits(text: str) -> ColumnElement[bool]:
    """Whether a row of `ops.sessions` has that name or id, or an id that starts or ends so."""
    digits = _digits(text)
    named = col(Session.name) == storable(text)
    return named if digits is None else or_(named, id_fits(col(Session.id), digits))


def full_id(text: str) -> UUID | None:
    """The run id that `text` spells in full, or None when it is a part of one, a name, or means the last."""
    digits = _digits(text)
    return UUID(digits) if digits is not None and len(digits) == 32 else None


def _digits(text: str) -> str | None:
    """The hex digits of an id or of a part of one; None when it can be neither."""
    digits = text.replace("-", "").lower()
    return digits if _ID.fullmatch(digits) else None


def read_run(db: Connection, run_id: UUID) -> RunDetails | None:
    """Everything that is recorded of the run, or None when nothing is yet."""
    row = db.execute(_views().where(col(Run.id) == run_id)).mappings().one_or_none()
    if row is None:
        return None
    view = _view(row)
    steps = _all(db, RunStep, run_id, col(RunStep.attempt), col(RunStep.index))
    if view.silent:
        for step in steps:
            step.progress = None  # of a process that may be gone
    return RunDetails(
        view=view,
        steps=steps,
        events=_all(db, RunEvent, run_id, col(RunEvent.created_at), col(RunEvent.id)),
        artifacts=_all(db, Artifact, run_id, col(Artifact.created_at), col(Artifact.id)),
        states=_all(db, RunState, run_id, col(RunState.at), col(RunState.id)),
    )


def is_postponed() -> ColumnElement[bool]:
    """Whether a row of `ops.run_states` is a state in which a run waits for a time of its own choice."""
    return and_(col(RunState.type) == "SCHEDULED", col(RunState.message).startswith(POSTPONED, autoescape=True))


def _views() -> Any:
    return (
        select(
            Run,
            col(Session.name).label("session"),
            func.clock_timestamp().label("now"),
            func.coalesce(asks_for_approval(), False).label("waits_for_approval"),
            func.coalesce(is_postponed(), False).label("postponed"),
            func.coalesce(_cancelled_by(), col(RunState.message), "").label("message"),
            *origin_columns(),
        )
        .join(Session, col(Session.id) == col(Run.session_id))
        .outerjoin(RunState, col(RunState.id) == col(Run.state_id))
    )


def _cancelled_by() -> Any:
    """Who cancelled a run that was: its last state says only that its processes are gone, or nothing."""
    asked = select(col(RunState.message)).where(
        col(RunState.run_id) == col(Run.id), col(RunState.type) == "CANCELLING", col(RunState.message) != ""
    )
    noted = select(col(RunEvent.message)).where(
        col(RunEvent.run_id) == col(Run.id), col(RunEvent.message).like("cancelled by %")
    )
    found = func.coalesce(
        asked.order_by(col(RunState.at).desc()).limit(1).correlate(Run).scalar_subquery(),
        noted.order_by(col(RunEvent.created_at).desc()).limit(1).correlate(Run).scalar_subquery(),
    )
    return case((col(Run.status) == RunStatus.CANCELLED, found))


def _view(row: RowMapping) -> RunView:
    columns = dict(row)
    beside = {name: columns.pop(name) for name in ("session", "now", "waits_for_approval", "postponed", "message")}
    first, message, schedule = (columns.pop(name) for name in ("first_state", "first_message", "schedule"))
    run = _record(Run, columns)
    started_from = origin(message=message, known=first is not None, tick=run.tick, schedule=schedule)
    return RunView(run=run, origin=started_from, **beside)


def _all(db: Connection, table: type[T], run_id: UUID, *order: Any) -> list[T]:
    rows = db.execute(select(table).where(table.run_id == run_id).order_by(*order)).mappings()  # type: ignore[attr-defined]  # all four have it
    return [_record(table, dict(row)) for row in rows]


def _record(table: type[T], columns: dict[str, Any]) -> T:
    if table is Artifact:
        columns["details"] = columns.pop("metadata")
    if table is Run:
        columns["status"] = RunStatus(columns["status"])
    if table is RunStep:
        columns["status"] = StepStatus(columns["status"])
    return table(**columns)


def kinds_used(db: Connection, *, days: int) -> set[str]:
    """The kinds that ran within `days`, or were due to, on the host of their worker and not on another one."""
    since = func.clock_timestamp() - func.make_interval(0, 0, 0, days)
    elsewhere = func.coalesce(col(Run.params)["odoo_host"].astext, "") != ""
    return set(db.scalars(select(col(Run.kind)).where(col(Run.created_at) > since, ~elsewhere).distinct()))


def read_statuses(db: Connection, run_ids: Collection[UUID]) -> dict[UUID, RunStatus]:
    """The status of each of the runs that are recorded."""
    rows = db.execute(select(col(Run.id), col(Run.status)).where(col(Run.id).in_(run_ids)))
    return {row.id: RunStatus(row.status) for row in rows}
