"""What a message is about: an incident, its first subjects, and how their runs stand when the message is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from opsdb.alerts.episodes import Rule

SHOWN = 10
"""Subjects that a message lists."""
DATABASES = 20
"""Databases that a report names."""
RESOLVED_BY = "resolved_by"
"""The fact that names the run whose success ended an episode."""
DELETED = "deleted"
"""Stands for the status of a run that is not in the record any more."""
BY_HAND = "completed by hand"
"""Stands for the status of a run that is called succeeded, though its process never said so."""
OVER = "over"
"""The end of a subject other than a run, where nobody knows that it ended well."""

Event = Literal["firing", "repeat", "ended", "resolved"]
"""`ended`: it lasts, and of some subjects the end is known that somebody waits for."""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """An incident as it stands at `now`."""

    id: int
    rule: Rule
    lane: str
    opened_at: datetime
    told_at: datetime | None
    resolved_at: datetime | None
    acknowledged_at: datetime | None = None
    untold: int
    ended: int = 0
    """Of how many subjects an end that somebody waits for was not reported yet."""
    end_told_at: datetime | None = None
    silenced: bool
    now: datetime


@dataclass(frozen=True, kw_only=True)
class RunNow:
    """How the run of a subject stands now, in its newest attempt."""

    name: str | None
    """What the run is called."""
    status: str
    """A status of a run, or `DELETED` or `BY_HAND`. `succeeded` where a later success made its failure good."""
    attempt: int = 1
    max_attempts: int = 1
    worker: str | None = None
    database: str | None = None
    """The Odoo database, or databases, that it works on."""
    step: str | None = None
    """The step that was not completed."""
    error: str | None = None
    """Why it failed, masked as it is in the record; it may have several lines."""
    origin: str | None = None
    """The message of its first state, see `opsdb.runs.origins`."""
    tick: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What one episode is about."""

    name: str
    kind: str | None
    run_id: UUID | None
    run: RunNow | None = None
    facts: dict[str, Any]
    opened_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a message says, each run once.

    `subjects` are the first of `count`: at an end those that failed, before it those that were not reported yet.
    """

    event: Event
    incident: Incident
    count: int
    kinds: dict[str, int]
    statuses: Mapping[str, int] = field(default_factory=dict)
    """How many of the subjects' runs stand how now.

    A failure that a later success resolved counts as succeeded; other subjects have a status only where it did not
    end well.
    """
    databases: Sequence[str] = ()
    """The first databases of the subjects."""
    subjects: Sequence[Subject]


# of `r`, a row of ops.runs, and `e`, an episode that is about it
RUN_NOW = {
    "name": "r.name",
    "status": "r.status",
    "attempt": "r.attempt",
    "max_attempts": "r.max_attempts",
    "worker": "r.claimed_by",
    "database": """coalesce(r.params->>'odoo_db', substring(r.resource FROM '^odoo_db:(.*)$'),
        CASE WHEN jsonb_typeof(r.params->'databases') = 'array'
             THEN (SELECT string_agg(d, ', ') FROM jsonb_array_elements_text(r.params->'databases') d) END)""",
    "step": """(SELECT s.name FROM ops.run_steps s
        WHERE s.run_id = r.id AND s.attempt = r.attempt
              AND s.status NOT IN ('succeeded', 'skipped') ORDER BY s.index DESC LIMIT 1)""",
    # an error that nobody raised on purpose says little without its type
    "error": """coalesce(CASE WHEN r.status <> 'failed' THEN NULL
                              WHEN r.error->>'stack' IS NULL THEN nullif(r.error->>'message', '')
                              ELSE concat_ws(': ', r.error->>'type', nullif(r.error->>'message', '')) END,
                         CASE WHEN r.attempt = (e.facts->>'attempt')::int THEN e.facts->>'error' END,
                         CASE WHEN r.status = 'failed' THEN r.error->>'type' END)""",
    "origin": "(SELECT st.message FROM ops.run_states st WHERE st.run_id = r.id ORDER BY st.at LIMIT 1)",
    "tick": "r.tick",
    "started_at": "r.started_at",
    "finished_at": "r.finished_at",
}
DATABASE = f"coalesce({RUN_NOW['database']}, e.facts->>'database')"
NEWS = """e.resolved_at IS NOT NULL AND e.told_at IS NOT NULL AND e.end_told_at IS NULL
    AND (e.rule = 'approval'
         OR (e.rule IN ('stuck', 'overdue', 'claim') AND r.status = 'failed')
         OR (e.rule = 'failed' AND r.status = 'failed' AND r.updated_at < clock_timestamp() - interval '1 day'))"""
"""Whether somebody waits to hear how an episode ended, though its incident lasts: answers, and runs that are lost."""
# one row for each run, of its newest episode
CHOSEN = f"""
WITH chosen AS MATERIALIZED (
  SELECT DISTINCT ON (coalesce(e.run_id::text, e.subject)) e.*
  FROM ops.alert_episodes e LEFT JOIN ops.runs r ON r.id = e.run_id
  WHERE e.incident_id = :id AND CASE :event WHEN 'resolved' THEN e.end_told_at IS NULL WHEN 'ended' THEN {NEWS}
                                            ELSE e.resolved_at IS NULL OR e.told_at IS NULL END
  ORDER BY coalesce(e.run_id::text, e.subject), e.id DESC)
"""  # noqa: S608 - a constant
# what no run of ours brought to its end is not good: somebody may have set it by hand
STATUS = f"""CASE WHEN e.facts ? '{RESOLVED_BY}' THEN 'succeeded'
                  WHEN e.run_id IS NOT NULL AND r.status = 'succeeded' AND r.outcome IS DISTINCT FROM 'succeeded'
                  THEN '{BY_HAND}'
                  WHEN e.run_id IS NOT NULL THEN coalesce(r.status, '{DELETED}')
                  WHEN e.rule = 'backup' OR e.facts ? 'forgotten_at' THEN '{OVER}'
                  WHEN e.rule = 'worker_lost' AND NOT EXISTS (
                    SELECT FROM ops.workers w WHERE w.host = e.subject
                    AND w.heartbeat_at > clock_timestamp() - interval '1 minute') THEN '{OVER}'
                  ELSE '' END"""
COUNTS = text(f"""
{CHOSEN}
SELECT coalesce(e.kind, '') AS kind, {STATUS} AS status, count(*) AS count
FROM chosen e LEFT JOIN ops.runs r ON r.id = e.run_id
GROUP BY 1, 2 ORDER BY 3 DESC, 1
""")  # noqa: S608 - constants
DATABASE_NAMES = text(f"""
{CHOSEN}
SELECT DISTINCT about.database
FROM chosen e LEFT JOIN ops.runs r ON r.id = e.run_id, LATERAL (SELECT {DATABASE} AS database) about
WHERE about.database IS NOT NULL
ORDER BY 1 LIMIT :databases
""")  # noqa: S608 - constants
FIRST = f"""CASE WHEN :event IN ('resolved', 'ended') THEN {STATUS} <> 'failed' END,
         e.told_at IS NOT NULL, {STATUS} = 'succeeded', e.id"""
SUBJECTS = text(f"""
{CHOSEN}
SELECT e.subject, e.kind, e.run_id, e.facts, e.opened_at, e.resolved_at, r.id IS NOT NULL AS there,
       {", ".join(f"{value} AS run_{name}" for name, value in (RUN_NOW | {"status": STATUS}).items())}
FROM (SELECT e.* FROM chosen e LEFT JOIN ops.runs r ON r.id = e.run_id ORDER BY {FIRST} LIMIT :shown) e
     LEFT JOIN ops.runs r ON r.id = e.run_id
ORDER BY {FIRST}
""")  # noqa: S608 - constants


def read_report(db: Connection, incident: Incident, event: Event) -> Report:
    """What is to be said of an incident now: at its end of all whose end was not reported, before that of what is
    active or new."""
    values = {"id": incident.id, "event": event}
    kinds, statuses = dict[str, int](), dict[str, int]()
    count = 0
    for row in db.execute(COUNTS, values).mappings():
        count += row["count"]
        for counts, name in ((kinds, row["kind"]), (statuses, row["status"])):
            if name:
                counts[name] = counts.get(name, 0) + row["count"]
    return Report(
        event=event,
        incident=incident,
        count=count,
        kinds=dict(sorted(kinds.items(), key=lambda one: (-one[1], one[0]))),
        statuses=statuses,
        databases=db.scalars(DATABASE_NAMES, values | {"databases": DATABASES}).all(),
        subjects=[_subject(row) for row in db.execute(SUBJECTS, values | {"shown": SHOWN}).mappings()],
    )


def _subject(row: RowMapping) -> Subject:
    run = None
    if row["run_id"] is not None:
        found = {name: row[f"run_{name}"] for name in RUN_NOW}
        run = RunNow(**found) if row["there"] else RunNow(name=None, status=DELETED)
    return Subject(
        name=row["subject"],
        kind=row["kind"],
        run_id=row["run_id"],
        run=run,
        facts=row["facts"],
        opened_at=row["opened_at"],
        resolved_at=row["resolved_at"],
    )
