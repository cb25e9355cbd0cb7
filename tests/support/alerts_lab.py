"""A room's record as alerts see it: runs and ages are put into the tables, nobody waits."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from opsdb.alerts.incidents import Draft, write_messages
from opsdb.alerts.outbox import Level, Message
from opsdb.alerts.report import Report
from opsdb.alerts.rules import apply_rules
from opsdb.alerts.thresholds import Thresholds, parse_thresholds

AGES = {  # what a passage of time changes
    "alert_incidents": ("opened_at", "told_at", "resolved_at", "closed_at", "acknowledged_at"),
    "alert_episodes": ("opened_at", "told_at", "resolved_at", "end_told_at"),
    "alert_messages": ("created_at",),
    "alert_deliveries": ("next_attempt_at", "leased_until", "delivered_at", "dead_at"),
    "alert_silences": ("until_at", "made_at"),
}


def message(body: str, *, level: Level = Level.WARNING, title: str = "a title") -> Message:
    """A message that says so."""
    return Message(level=level, title=title, body=body)


class Lab:
    """One ops database, and what an alerter would say of it."""

    def __init__(self, engine: Engine, thresholds: str = "") -> None:
        self.engine, self.reports = engine, list[Report]()
        self.thresholds: Thresholds = parse_thresholds(thresholds)
        self.destinations = ["main"]
        with engine.begin() as db:
            apply_rules(db, self.thresholds)
        self.sql("INSERT INTO ops.sync_marks (name, at) SELECT n, now() FROM unnest(ARRAY['sync','prefect','sweep']) n")
        self.sql("UPDATE ops.sync_marks SET at = at - interval '1 day'")

    def sql(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.begin() as db:
            found = db.execute(text(statement), values)
            return list(found.all()) if found.returns_rows else []

    def run(self, **columns: Any) -> UUID:
        """Insert a running run with a heartbeat now; columns override. One that is over ended by its own process."""
        run_id, state_id = uuid4(), uuid4()
        state = {"type": columns.pop("state", "RUNNING"), "name": columns.pop("state_name", "Running")}
        age = columns.pop("age", 0)
        values = {"kind": "k", "lane": "A", "status": "running", "claimed_by": "w-1", "attempt": 1} | columns
        if values["status"] in ("succeeded", "failed"):
            values = {"outcome": values["status"]} | values
        names = ", ".join(values)
        self.sql(
            "INSERT INTO ops.sessions (id, name) VALUES ('00000000-0000-4000-8000-000000000001', 'Release') "
            "ON CONFLICT DO NOTHING"
        )
        self.sql(
            f"INSERT INTO ops.runs (id, session_id, state_id, state_at, heartbeat_at, created_at, updated_at, {names}) "
            "VALUES (:id, '00000000-0000-4000-8000-000000000001', :state_id, now(), clock_timestamp(), "
            f"now() - make_interval(secs => :age), now() - make_interval(secs => :age), "
            f"{', '.join(':' + name for name in values)})",
            **values,
            id=run_id,
            state_id=state_id,
            age=age,
        )
        self.sql(
            "INSERT INTO ops.run_states (id, run_id, at, type, name, recorded_at) "
            "VALUES (:state_id, :id, now(), :type, :name, now() - make_interval(secs => :age))",
            id=run_id,
            state_id=state_id,
            age=age,
            **state,
        )
        return run_id

    def set(self, run_id: UUID, assignment: str) -> None:
        self.sql(f"UPDATE ops.runs SET {assignment} WHERE id = :id", id=run_id)

    def finish(self, run_id: UUID, status: str = "failed") -> None:
        outcome = "NULL" if status == "cancelled" else f"'{status}'"
        self.set(
            run_id,
            f"status = '{status}', outcome = {outcome}, "
            "finished_at = clock_timestamp(), updated_at = clock_timestamp()",
        )

    def mark(self, run_id: UUID) -> None:
        """What the record holds when somebody sets a run that is over to Completed in Prefect."""
        self.set(run_id, "status = 'succeeded', finished_at = clock_timestamp(), updated_at = clock_timestamp()")

    def cycle(self) -> list[tuple[str, str, str, int]]:
        """What one look tells: event, rule, lane, subjects."""
        before = len(self.reports)
        with self.engine.begin() as db:
            apply_rules(db, self.thresholds)
            write_messages(db, self._write, anybody=bool(self.destinations))
        return [(r.event, r.incident.rule.value, r.incident.lane, r.count) for r in self.reports[before:]]

    def _write(self, _db: Connection, report: Report) -> Draft:
        self.reports.append(report)
        return Draft(message=message(f"{report.event} {report.incident.rule}"), destinations=self.destinations)

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass for what alerts have written, and for nothing else."""
        for table, columns in AGES.items():
            moved = ", ".join(f"{c} = {c} - make_interval(secs => :seconds)" for c in columns)
            self.sql(f"UPDATE ops.{table} SET {moved}", seconds=seconds)
