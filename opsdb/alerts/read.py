"""Reading alerts, for `ops alerts` and for the metrics: in numbers, active alerts, what was not delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from opsdb.alerts.outbox import DELIVERED
from opsdb.alerts.report import DATABASE

STATES = ("untold", "told", "silenced")
"""Of an episode that lasts."""
OVERDUE_SECONDS = 900.0
"""A message that waits longer is a sign that alerts do not arrive."""

# episodes as {state: count}, pending, dead, totals as {DELIVERED or a reason: count}, the time of the last look
FIGURES = """
SELECT
  (SELECT jsonb_object_agg(state, n) FROM (
     SELECT CASE WHEN e.told_at IS NOT NULL THEN 'told' WHEN s.rule IS NOT NULL THEN 'silenced' ELSE 'untold' END
              AS state, count(*) AS n
     FROM ops.alert_episodes e
          LEFT JOIN ops.alert_silences s ON s.rule = e.rule AND s.until_at > clock_timestamp()
     WHERE e.resolved_at IS NULL GROUP BY 1) states) AS episodes,
  (SELECT count(*) FROM ops.alert_deliveries WHERE delivered_at IS NULL AND dead_at IS NULL) AS pending,
  (SELECT count(*) FROM ops.alert_deliveries WHERE dead_at IS NOT NULL) AS dead,
  (SELECT jsonb_object_agg(outcome, count) FROM ops.alert_totals) AS totals,
  (SELECT updated_at FROM ops.sync_marks WHERE name = 'alerts') AS last_cycle_at
"""
INCIDENTS = text(f"""
SELECT i.id, i.rule, i.lane, i.opened_at, i.told_at, i.resolved_at, i.acknowledged_at, i.acknowledged_by,
       c.episodes, c.lasting, c.subjects, c.kinds, c.databases, s.until_at AS silenced_until, clock_timestamp() AS now
FROM ops.alert_incidents i
     LEFT JOIN ops.alert_silences s ON s.rule = i.rule AND s.until_at > clock_timestamp(),
     LATERAL (SELECT count(*) AS episodes, count(*) FILTER (WHERE e.resolved_at IS NULL) AS lasting,
                     (array_agg(e.subject ORDER BY e.resolved_at IS NOT NULL, e.id))[1:10] AS subjects,
                     coalesce(array_agg(DISTINCT e.kind) FILTER (WHERE e.kind IS NOT NULL), '{{}}') AS kinds,
                     coalesce((array_agg(DISTINCT about.database)
                               FILTER (WHERE about.database IS NOT NULL))[1:10], '{{}}') AS databases
              FROM ops.alert_episodes e LEFT JOIN ops.runs r ON r.id = e.run_id,
                   LATERAL (SELECT {DATABASE} AS database) about
              WHERE e.incident_id = i.id) c
WHERE i.closed_at IS NULL OR i.closed_at > clock_timestamp() - interval '1 day'
ORDER BY i.closed_at IS NULL DESC, i.opened_at DESC LIMIT 100
""")  # noqa: S608 - a constant
UNDELIVERED = text("""
SELECT d.message_id, m.incident_id, m.event, d.destination, d.attempts, d.next_attempt_at, d.dead_at, d.reason,
       d.http_status
FROM ops.alert_deliveries d JOIN ops.alert_messages m ON m.id = d.message_id
WHERE d.delivered_at IS NULL ORDER BY d.message_id DESC LIMIT 100
""")
SILENCES = text("""
SELECT rule, made_at, until_at, clock_timestamp() AS now FROM ops.alert_silences
WHERE until_at > clock_timestamp() ORDER BY until_at, rule
""")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Alerts in numbers. The totals never go back."""

    episodes: Mapping[str, int]
    """What lasts, by state: `untold`, `told`, `silenced`. All states are there."""
    pending: int
    dead: int
    delivered_total: int
    failed_total: Mapping[str, int]
    """Failed attempts by reason."""
    last_cycle_at: datetime | None
    """When the rules were last looked at; None before the first time."""


def read_figures(db: Connection) -> Figures:
    """Alerts in numbers, in one statement."""
    row = db.execute(text(FIGURES)).one()
    totals = dict(row.totals or {})
    return Figures(
        episodes=dict.fromkeys(STATES, 0) | (row.episodes or {}),
        pending=row.pending,
        dead=row.dead,
        delivered_total=totals.pop(DELIVERED, 0),
        failed_total=totals,
        last_cycle_at=row.last_cycle_at,
    )


def read_incidents(db: Connection) -> list[dict[str, Any]]:
    """The incidents that last, or were closed within a day: those that last first, the newest first."""
    return [row._asdict() for row in db.execute(INCIDENTS)]


def read_silences(db: Connection) -> list[dict[str, Any]]:
    """The rules that are silenced now, whether or not something is wrong: those that end first come first."""
    return [row._asdict() for row in db.execute(SILENCES)]


def read_undelivered(db: Connection) -> list[dict[str, Any]]:
    """What waits to be delivered, or was given up, newest first."""
    return [row._asdict() for row in db.execute(UNDELIVERED)]


def read_reached(db: Connection) -> list[str]:
    """The names of the destinations that took a message which is still kept, in order."""
    taken = text("SELECT DISTINCT destination FROM ops.alert_deliveries WHERE delivered_at IS NOT NULL ORDER BY 1")
    return list(db.scalars(taken))


def overdue_messages(db: Connection) -> bool:
    """Whether a message has waited for too long."""
    found = db.scalar(
        text(
            "SELECT EXISTS (SELECT FROM ops.alert_deliveries d JOIN ops.alert_messages m ON m.id = d.message_id "
            "WHERE d.delivered_at IS NULL AND d.dead_at IS NULL "
            "AND m.created_at < clock_timestamp() - make_interval(secs => :seconds))"
        ),
        {"seconds": OVERDUE_SECONDS},
    )
    return bool(found)
