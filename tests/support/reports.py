"""Made-up reports of alerts: what a message is written from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from exporter.alerting.links import Links
from exporter.alerting.messages import render
from opsdb.alerts.episodes import Rule
from opsdb.alerts.outbox import Message
from opsdb.alerts.report import Event, Incident, Report, RunNow, Subject

RUN = UUID("0195f0c2-7a1e-7cc3-9a54-3f1e2d4c5b6a")
NOW = datetime(2026, 11, 24, 3, 12, 5, tzinfo=UTC)
UI = "https://ops.example.org"
NEXT = "nothing tries it again"
DUMP = "pg_dump: error: connection to server failed: FATAL: the database system is shutting down"


def report(
    rule: Rule = Rule.STUCK,
    *,
    event: Event = "firing",
    count: int = 1,
    kind: str | None = "odoo_db_backup",
    kinds: dict[str, int] | None = None,
    statuses: dict[str, int] | None = None,
    run: RunNow | None = None,
    **facts: Any,
) -> Report:
    """A report about `count` runs that are all alike."""
    known: dict[str, Any] = {"worker": "ops-1-4711", "session": "Release 18.2", "silent_seconds": 30.4, "attempt": 1}
    run = run or RunNow(name=None, status="running")
    subject = Subject(name="s", kind=kind, run_id=RUN, run=run, facts=known | facts, opened_at=NOW, resolved_at=None)
    incident = Incident(
        id=12,
        rule=rule,
        lane="B",
        opened_at=NOW,
        told_at=None,
        resolved_at=None,
        untold=count,
        silenced=False,
        now=NOW,
    )
    return Report(
        event=event,
        incident=incident,
        count=count,
        kinds=kinds or {kind or "": count},
        statuses=statuses or {run.status: count},
        databases=[run.database] if run.database else [],
        subjects=[subject] * min(count, 10),
    )


def failed(name: str = "odoo_prod · backup", **values: Any) -> RunNow:
    """A run that failed in its dump."""
    common = {"status": "failed", "database": "odoo_prod", "step": "pg_dump", "error": DUMP}
    times = {"started_at": NOW - timedelta(minutes=4, seconds=12), "finished_at": NOW - timedelta(seconds=30)}
    return RunNow(**{"name": name, **common, **times, **values})


def written(told: Report, *, outlook: str = "", links: Links | None = None) -> Message:
    """The message about it."""
    return render(told, links=links or Links(server=UI), outlook=outlook)
