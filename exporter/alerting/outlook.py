"""What the room does next about a run that an alert is about: whoever is woken must know whether to get up."""

from __future__ import annotations

from sqlalchemy import Connection, text

from exporter.alerting.markup import quoted
from opsdb.alerts.report import DELETED, Report, RunNow, Subject
from opsdb.runs.origins import starter_of
from opsdb.runs.retries import read_tries_left
from opsdb.states import RunStatus

STARTER = text("""
SELECT coalesce(r.name, r.kind) AS name, right(r.id::text, 8) AS short, st.message
FROM ops.runs r JOIN ops.run_states st ON st.id = r.state_id
WHERE right(r.id::text, 8) = :short AND r.finished_at IS NULL LIMIT 1
""")
SCHEDULE = text(
    "SELECT name, planned_at FROM ops.schedule_plans WHERE id::text = split_part(:tick, ' ', 3) AND active "
    "AND planned_at > clock_timestamp()"
)
NOBODY = "nothing tries it again"


def read_outlook(db: Connection, report: Report) -> str:
    """What happens next to the run of the first subject, in Markdown; empty where that is another matter."""
    subject = report.subjects[0]
    run = subject.run
    if run is None or run.status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED, DELETED):
        return ""
    if run.status == RunStatus.FAILED:
        return _after_failure(db, subject, run)
    if not report.incident.rule.final:
        return ""
    if run.attempt != subject.facts.get("attempt", run.attempt):
        return f"attempt {run.attempt} is {run.status}; this alert ends with it"
    left = read_tries_left(db, subject.run_id) if subject.run_id else 0
    return "the room ends it, " + (f"then tries it again, {_times(left)}" if left else f"and {NOBODY}")


def _after_failure(db: Connection, subject: Subject, run: RunNow) -> str:
    lasts = subject.resolved_at is None  # else it was waited for long enough
    if lasts and subject.run_id is not None and (left := read_tries_left(db, subject.run_id)):
        return f"the room tries it again once its processes are known to be gone, {_times(left)}"
    short = starter_of((run.origin or "").removeprefix("started by "))
    starter = db.execute(STARTER, {"short": short}).one_or_none() if short else None
    if starter is not None:
        waits = f": {quoted(starter.message, longest=200)}" if starter.message else ""
        return f"{quoted(starter.name)}, run {quoted(starter.short)}, which started it, may try it again{waits}"
    plan = db.execute(SCHEDULE, {"tick": run.tick}).one_or_none() if run.tick else None
    if plan is not None and plan.planned_at is not None:
        return f"{NOBODY}; its schedule {quoted(plan.name)} starts the next run at {plan.planned_at:%Y-%m-%d %H:%M} UTC"
    return NOBODY


def _times(left: int) -> str:
    return "once" if left == 1 else f"at most {left} times"
