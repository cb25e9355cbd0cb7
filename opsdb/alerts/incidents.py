"""Episodes become incidents, and incidents messages: what is sent, and when, by the database's clock.

An incident is reported once when it begins, again every `REPEAT` while it lasts and nobody acknowledged it, once for
each end that somebody waits for, and once when it is over. Its episodes are those of one rule in one lane, so that
10,000 of them make one message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from opsdb.alerts.episodes import Rule
from opsdb.alerts.outbox import Message
from opsdb.alerts.report import NEWS, Event, Incident, Report, read_report
from opsdb.errors import UsageError

log = logging.getLogger(__name__)

SETTLE = timedelta(seconds=5)
"""From the first episode to the message: two heartbeats are as far apart, so one message covers what died together."""
JOIN = timedelta(minutes=5)
"""How soon after a message another one reports subjects that joined."""
REPEAT = timedelta(hours=4)
CALM = timedelta(minutes=10)
"""How long all must be well before that is reported. What comes back sooner continues the incident."""
KEPT_DAYS = 30
"""How long incidents and silences that are over are kept."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A message as it was written, and to which destinations it goes."""

    message: Message
    destinations: Sequence[str]


Write = Callable[[Connection, Report], Draft]

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
UNCLOSED = text(f"""
SELECT i.id, i.rule, i.lane, i.opened_at, i.told_at, i.resolved_at, i.acknowledged_at, clock_timestamp() AS now,
       e.untold, e.ended, e.end_told_at,
       EXISTS (SELECT FROM ops.alert_silences s WHERE s.rule = i.rule AND s.until_at > clock_timestamp()) AS silenced
FROM ops.alert_incidents i,
     LATERAL (SELECT count(*) FILTER (WHERE e.told_at IS NULL) AS untold, count(*) FILTER (WHERE {NEWS}) AS ended,
                     max(e.end_told_at) AS end_told_at
              FROM ops.alert_episodes e LEFT JOIN ops.runs r ON r.id = e.run_id WHERE e.incident_id = i.id) e
WHERE i.closed_at IS NULL ORDER BY i.id
""")  # noqa: S608 - a constant
MARK_TOLD = text("""
WITH reported AS (UPDATE ops.alert_episodes SET told_at = clock_timestamp() WHERE incident_id = :id AND told_at IS NULL)
UPDATE ops.alert_incidents SET told_at = clock_timestamp() WHERE id = :id
""")
MARK_ENDED = text(f"""
UPDATE ops.alert_episodes o SET end_told_at = clock_timestamp()
FROM ops.alert_episodes e LEFT JOIN ops.runs r ON r.id = e.run_id
WHERE o.id = e.id AND e.incident_id = :id AND {NEWS}
""")  # noqa: S608 - a constant
CLOSE = text("UPDATE ops.alert_incidents SET closed_at = clock_timestamp() WHERE id = :id")
STORE = text("""
WITH message AS (
  INSERT INTO ops.alert_messages (incident_id, event, level, title, body)
  VALUES (:id, :event, :level, :title, :body) RETURNING id)
INSERT INTO ops.alert_deliveries (message_id, destination)
SELECT message.id, d FROM message, unnest(CAST(:destinations AS text[])) AS d
WHERE :event <> 'resolved' OR :level IN ('critical', 'failure')  -- nobody should have to wait for bad news
   OR EXISTS (SELECT FROM ops.alert_messages m JOIN ops.alert_deliveries heard ON heard.message_id = m.id
              WHERE m.incident_id = :id AND heard.destination = d AND heard.dead_at IS NULL)
""")
ACKNOWLEDGED_BY = text(
    "SELECT acknowledged_by FROM ops.alert_incidents WHERE id = :id AND resolved_at IS NULL AND closed_at IS NULL "
    "FOR UPDATE"
)
ACKNOWLEDGE = text(
    "UPDATE ops.alert_incidents SET acknowledged_at = clock_timestamp(), acknowledged_by = :by WHERE id = :id"
)

SILENCE = text("""
INSERT INTO ops.alert_silences (rule, until_at) VALUES (:rule, clock_timestamp() + :length)
ON CONFLICT (rule) DO UPDATE SET until_at = excluded.until_at, made_at = excluded.made_at
RETURNING until_at
""")
END_SILENCE = text("""
UPDATE ops.alert_silences SET until_at = clock_timestamp() WHERE rule = :rule AND until_at > clock_timestamp()
""")
PRUNE = (
    "DELETE FROM ops.alert_incidents WHERE closed_at < clock_timestamp() - make_interval(days => :days)",
    "DELETE FROM ops.alert_silences WHERE until_at < clock_timestamp() - make_interval(days => :days)",
    "DELETE FROM ops.workers WHERE heartbeat_at < clock_timestamp() - interval '1 day'",
)


def due(incident: Incident) -> Event | Literal["close"] | None:
    """Which message an incident needs now. `close` ends it without one, since none was sent."""
    i = incident
    if i.told_at is None:
        if i.resolved_at is not None and (i.silenced or not i.untold):
            return "close"
        return "firing" if not i.silenced and i.now >= i.opened_at + SETTLE else None
    if i.resolved_at is not None:
        return "resolved" if _over(i) else None
    if i.ended and not i.silenced and (i.rule is Rule.APPROVAL or i.now - (i.end_told_at or i.told_at) >= JOIN):
        return "ended"
    waited = i.now - i.told_at
    reminds = waited >= REPEAT and (i.acknowledged_at is None or i.acknowledged_at < i.told_at)
    if not i.silenced and (reminds or (i.untold and waited >= JOIN)):
        return "repeat"
    return None


def _over(incident: Incident) -> bool:
    """Whether all has been well for so long that what comes now is a new incident."""
    over = CALM if incident.rule.calm else timedelta(0)
    return incident.resolved_at is not None and incident.now >= incident.resolved_at + over


def write_messages(db: Connection, write: Write, *, anybody: bool) -> int:
    """Group what is new and put what is due into the outbox, all in the caller's transaction. Returns how many.

    Without `anybody` to notify, incidents are kept and nothing counts as reported. One process may do this at a time.
    """
    db.execute(GROUP)
    db.execute(SETTLE_ENDS)
    told = 0
    for row in db.execute(UNCLOSED).all():
        incident = Incident(**(row._asdict() | {"rule": Rule(row.rule)}))
        event = due(incident)
        if event == "close" or (not anybody and _over(incident)):
            db.execute(CLOSE, {"id": incident.id})
        elif event is not None and anybody:
            try:
                with db.begin_nested():
                    _store(db, write(db, read_report(db, incident, event)), incident, event)
            except DBAPIError:
                raise
            except Exception:  # the others are reported all the same
                log.exception("alert %d: internal error; continuing", incident.id)
                continue
            told += 1
    return told


def _store(db: Connection, draft: Draft, incident: Incident, event: Event) -> None:
    values = {"id": incident.id, "event": event, "destinations": list(draft.destinations)}
    db.execute(STORE, values | asdict(draft.message))
    done = {"resolved": CLOSE, "ended": MARK_ENDED}.get(event, MARK_TOLD)
    db.execute(done, {"id": incident.id})


def acknowledge(db: Connection, incident_id: int, by: str) -> str | None:
    """Note that somebody takes care of an incident: no more reminders of what was reported so far.

    Returns who had done so before; None when nobody had. Raises UsageError when it is not active.
    """
    before = db.execute(ACKNOWLEDGED_BY, {"id": incident_id}).one_or_none()
    if before is None:
        raise UsageError(f"ALERT: alert {incident_id} is not active. Hint: `ops alerts` lists those that are")
    db.execute(ACKNOWLEDGE, {"id": incident_id, "by": by})
    name: str | None = before.acknowledged_by
    return name


def silence(db: Connection, rule: Rule, length: timedelta) -> datetime:
    """Silence the alerts for a rule for so long; returns until when."""
    until: datetime = db.execute(SILENCE, {"rule": rule.value, "length": length}).scalar_one()
    return until


def end_silence(db: Connection, rule: Rule) -> bool:
    """Report alerts for a rule again. Returns False when it was not silenced."""
    return db.execute(END_SILENCE, {"rule": rule.value}).rowcount > 0


def prune(db: Connection) -> None:
    """Forget what was over a month ago, and workers without a heartbeat for a day."""
    for statement in PRUNE:
        db.execute(text(statement), {"days": KEPT_DAYS} if ":days" in statement else {})
