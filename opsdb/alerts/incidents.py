"""Episodes become incidents, and incidents messages: what is sent, and when, by the database's clock.

An incident is reported once when it begins, again every `REPEAT` while it lasts, and once when it is over. Its episodes
are those of one rule in one lane, so that 10,000 of them make one message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, text

from opsdb.alerts.episodes import Rule

SETTLE = timedelta(seconds=5)
"""From the first episode to the message: two heartbeats are as far apart, so one message tells what died at once."""
JOIN = timedelta(minutes=5)
"""How soon after a message another one tells of subjects that joined."""
REPEAT = timedelta(hours=4)
CALM = timedelta(minutes=10)
"""How long all must be well before that is reported. What comes back sooner continues the incident."""
SHOWN = 10
"""Subjects that a message lists."""
KEPT_DAYS = 30
"""How long incidents and silences that are over are kept."""

Event = Literal["firing", "repeat", "resolved"]


@dataclass(frozen=True, kw_only=True)
class Incident:
    """An incident as it stands at `now`."""

    id: int
    rule: Rule
    lane: str
    opened_at: datetime
    told_at: datetime | None
    resolved_at: datetime | None
    untold: int
    silenced: bool
    now: datetime


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What one episode is about."""

    name: str
    kind: str | None
    run_name: str | None = None
    """What the run is called."""
    run_id: UUID | None
    facts: dict[str, Any]
    opened_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a message says. `subjects` are the first of `count`."""

    event: Event
    incident: Incident
    count: int
    lasting: int
    kinds: dict[str, int]
    subjects: Sequence[Subject]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A message as it was written, and to which destinations it goes."""

    body: str
    destinations: Sequence[str]


Write = Callable[[Report], Draft]

GROUP = text("""
WITH opened AS (
  INSERT INTO ops.alert_incidents (rule, lane, opened_at)
  SELECT rule, lane, min(opened_at) FROM ops.alert_episodes WHERE incident_id IS NULL GROUP BY rule, lane
  ON CONFLICT (rule, lane) WHERE closed_at IS NULL DO UPDATE SET resolved_at = NULL
  RETURNING id, rule, lane)
UPDATE ops.alert_episodes e SET incident_id = o.id
FROM opened o WHERE e.incident_id IS NULL AND e.rule = o.rule AND e.lane = o.lane
""")
SETTLE_ENDS = text("""
UPDATE ops.alert_incidents i
SET resolved_at = CASE WHEN lasts.one THEN NULL ELSE clock_timestamp() END
FROM ops.alert_incidents j,
     LATERAL (SELECT EXISTS (SELECT FROM ops.alert_episodes e
                             WHERE e.incident_id = j.id AND e.resolved_at IS NULL) AS one) lasts
WHERE i.id = j.id AND i.closed_at IS NULL AND lasts.one = (i.resolved_at IS NOT NULL)
""")
UNCLOSED = text("""
SELECT i.id, i.rule, i.lane, i.opened_at, i.told_at, i.resolved_at, clock_timestamp() AS now,
       (SELECT count(*) FROM ops.alert_episodes e WHERE e.incident_id = i.id AND e.told_at IS NULL) AS untold,
       EXISTS (SELECT FROM ops.alert_silences s WHERE s.rule = i.rule AND s.until_at > clock_timestamp()) AS silenced
FROM ops.alert_incidents i WHERE i.closed_at IS NULL ORDER BY i.id
""")
COUNTS = text("""
SELECT coalesce(kind, '') AS kind, count(*) AS count, count(*) FILTER (WHERE resolved_at IS NULL) AS lasting
FROM ops.alert_episodes WHERE incident_id = :id AND (:all OR resolved_at IS NULL OR told_at IS NULL)
GROUP BY 1 ORDER BY 2 DESC, 1
""")
FIRST = text("""
SELECT subject AS name, kind, run_id, facts, opened_at, resolved_at,
       (SELECT r.name FROM ops.runs r WHERE r.id = run_id) AS run_name
FROM ops.alert_episodes
WHERE incident_id = :id AND (:all OR resolved_at IS NULL OR told_at IS NULL)
ORDER BY told_at IS NOT NULL, id LIMIT :shown
""")
MARK_TOLD = text("""
WITH told AS (UPDATE ops.alert_episodes SET told_at = clock_timestamp() WHERE incident_id = :id AND told_at IS NULL)
UPDATE ops.alert_incidents SET told_at = clock_timestamp() WHERE id = :id
""")
CLOSE = text("UPDATE ops.alert_incidents SET closed_at = clock_timestamp() WHERE id = :id")
STORE = text("""
WITH message AS (
  INSERT INTO ops.alert_messages (incident_id, event, body) VALUES (:id, :event, :body) RETURNING id)
INSERT INTO ops.alert_deliveries (message_id, destination)
SELECT message.id, d FROM message, unnest(CAST(:destinations AS text[])) AS d
WHERE :event <> 'resolved'
   OR EXISTS (SELECT FROM ops.alert_messages m JOIN ops.alert_deliveries heard ON heard.message_id = m.id
              WHERE m.incident_id = :id AND heard.destination = d AND heard.dead_at IS NULL)
""")

SILENCE = text("""
INSERT INTO ops.alert_silences (rule, until_at) VALUES (:rule, clock_timestamp() + :length)
ON CONFLICT (rule) DO UPDATE SET until_at = excluded.until_at, made_at = excluded.made_at
RETURNING until_at
""")
PRUNE = (
    "DELETE FROM ops.alert_incidents WHERE closed_at < clock_timestamp() - make_interval(days => :days)",
    "DELETE FROM ops.alert_silences WHERE until_at < clock_timestamp() - make_interval(days => :days)",
    "DELETE FROM ops.workers WHERE heartbeat_at < clock_timestamp() - interval '1 day'",
)


def due(incident: Incident) -> Event | Literal["close"] | None:
    """Which message an incident needs now. `close` ends it without one, since none was sent."""
    i = incident
    if i.silenced and i.told_at is None:
        return "close" if i.resolved_at is not None else None
    if i.told_at is None:
        return "firing" if i.now >= i.opened_at + SETTLE else None
    if i.resolved_at is not None:
        over = CALM if i.rule.calm else timedelta(0)
        return "resolved" if i.now >= i.resolved_at + over else None
    waited = i.now - i.told_at
    if not i.silenced and (waited >= REPEAT or (i.untold and waited >= JOIN)):
        return "repeat"
    return None


def write_messages(db: Connection, write: Write, *, anybody: bool) -> int:
    """Group what is new and put what is due into the outbox, all in the caller's transaction. Returns how many.

    Without `anybody` to tell, incidents are kept and nothing counts as told. One process may do this at a time.
    """
    db.execute(GROUP)
    db.execute(SETTLE_ENDS)
    told = 0
    for row in db.execute(UNCLOSED).all():
        incident = Incident(**(row._asdict() | {"rule": Rule(row.rule)}))
        event = due(incident)
        if event == "close" or (incident.resolved_at is not None and not anybody):
            db.execute(CLOSE, {"id": incident.id})
        elif event is not None and anybody:
            draft = write(_report(db, incident, event))
            values = {"id": incident.id, "event": event, "body": draft.body, "destinations": list(draft.destinations)}
            db.execute(STORE, values)
            db.execute(CLOSE if event == "resolved" else MARK_TOLD, {"id": incident.id})
            told += 1
    return told


def silence(db: Connection, rule: Rule, length: timedelta) -> datetime:
    """Silence the alerts for a rule for so long; returns until when. A length of 0 ends a silence."""
    until: datetime = db.execute(SILENCE, {"rule": rule.value, "length": length}).scalar_one()
    return until


def prune(db: Connection) -> None:
    """Forget what was over a month ago, and workers that were not heard of for a day."""
    for statement in PRUNE:
        db.execute(text(statement), {"days": KEPT_DAYS} if ":days" in statement else {})


def _report(db: Connection, incident: Incident, event: Event) -> Report:
    values = {"id": incident.id, "all": event == "resolved"}
    counts = db.execute(COUNTS, values).all()
    rows = db.execute(FIRST, values | {"shown": SHOWN})
    return Report(
        event=event,
        incident=incident,
        count=sum(row[1] for row in counts),
        lasting=sum(row.lasting for row in counts),
        kinds={row.kind: row[1] for row in counts if row.kind},
        subjects=[Subject(**row._mapping) for row in rows],
    )
