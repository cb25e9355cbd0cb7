"""One run as the sweeper sees it. Ages are made by moving times in the tables, never by waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, text

from deployments.sync.verdicts import read_unpushed
from opsdb.record.entries import RunClosed, apply_line
from opsdb.runs.attempts import AttemptStatus, read_attempt_status, write_heartbeat
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sweeper import note_reaped, sweep
from opsdb.settings import Settings
from opsdb.states import State
from opsdb.tables import Lane

PREFECT_NOW = datetime(2031, 5, 5, tzinfo=UTC)
"""Prefect's clock, years from the database's: no rule may compare the two."""


class Case:
    """One run, put into a state, aged, swept."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings, self.id, self.number = engine, settings, uuid4(), 0

    def states(self, *types: str) -> None:
        facts = RunFacts(
            id=self.id, kind="k", lane=Lane.A, priority=0, session_id=None, params={}, created_at=PREFECT_NOW
        )
        made = []
        for type_ in types:
            self.number += 1
            at = PREFECT_NOW + timedelta(seconds=self.number)
            made.append(State(id=uuid4(), at=at, type=type_, name=type_.title()))
        with self.engine.begin() as db:
            apply_states(db, facts=facts, states=made)

    def set(self, assignment: str, table: str = "runs") -> None:
        column = "id" if table == "runs" else "run_id"
        with self.engine.begin() as db:
            db.execute(text(f"UPDATE ops.{table} SET {assignment} WHERE {column} = :id"), {"id": self.id})

    def age(self, seconds: float) -> None:
        self.set(f"heartbeat_at = clock_timestamp() - interval '{seconds} s'")

    def sweep(self) -> list[str]:
        with self.engine.begin() as db:
            return [fence.reason for fence in sweep(db, self.settings) if fence.run_id == self.id]

    def reaped(self, attempt: int = 1) -> None:
        with self.engine.begin() as db:
            note_reaped(db, run_id=self.id, attempt=attempt)

    def close(self, **values: Any) -> None:
        with self.engine.begin() as db:
            apply_line(db, RunClosed.of(self.id, attempt=1, **values).line())

    def row(self) -> Any:
        with self.engine.connect() as db:
            return db.execute(text("SELECT * FROM ops.runs WHERE id = :id"), {"id": self.id}).one()

    def events(self) -> list[tuple[str, str]]:
        query = text("SELECT level, message FROM ops.run_events WHERE run_id = :id ORDER BY created_at")
        with self.engine.connect() as db:
            return [(row.level, row.message) for row in db.execute(query, {"id": self.id})]

    def beat(self, attempt: int = 1) -> AttemptStatus:
        with self.engine.begin() as db:
            return write_heartbeat(db, run_id=self.id, attempt=attempt)

    def status(self, attempt: int = 1) -> AttemptStatus:
        with self.engine.begin() as db:
            return read_attempt_status(db, run_id=self.id, attempt=attempt)

    def unpushed(self) -> list[str | None]:
        with self.engine.connect() as db:
            return [push.state.name for push in read_unpushed(db) if push.run_id == self.id]
