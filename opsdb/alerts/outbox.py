"""The outbox: deliveries are leased, sent outside any transaction, and noted. At least once.

All times are by the database's clock.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, text

DELIVERED = "delivered"
REASONS = (
    "dns",
    "refused",
    "connection",
    "timeout",
    "proxy",
    "tls_untrusted",
    "tls_name",
    "no_tls",
    "wants_tls",
    "tls",
    "login",
    "recipient",
    "server",
    "rate_limited",
    "redirect",
    "configuration",
    "unexpected_answer",
    "error",
)
"""Why an attempt to deliver failed."""
LEASE_SECONDS = 30.0
"""How long a sender may take. When it was killed, another tries again after that."""
FIRST_WAIT_SECONDS = 5.0
PROBE_WAIT_SECONDS = 38.0
"""The longest wait in the first hour: a destination that was down for minutes hears within one of its return."""
PROBE_ATTEMPTS = 90
LONGEST_WAIT_SECONDS = 900.0
PATIENCE_SECONDS = 86_400.0
"""A message that could not be delivered for that long is dead: kept, counted, and not tried again."""


class Level(StrEnum):
    """How a message looks to whoever gets it: critical ones and failures are red, warnings yellow, success green."""

    CRITICAL = "critical"
    FAILURE = "failure"
    WARNING = "warning"
    INFO = "info"
    SUCCESS = "success"


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is said, whatever the destination makes of it."""

    level: Level
    title: str
    """In plain text, on one line."""
    body: str
    """In Markdown. Its first line is the title, as it looks there."""


@dataclass(frozen=True, kw_only=True)
class Leased:
    """A message to be sent now. `attempt` counts from 1."""

    message_id: int
    incident_id: int
    destination: str
    attempt: int
    message: Message


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a message did not get through. `lasting`: it will not, until somebody changes something."""

    reason: str
    lasting: bool = False
    http_status: int | None = None
    retry_after_seconds: float | None = None


LEASE = text("""
UPDATE ops.alert_deliveries d
SET leased_until = clock_timestamp() + make_interval(secs => :lease), attempts = d.attempts + 1
FROM ops.alert_messages m
WHERE m.id = d.message_id AND (d.message_id, d.destination) = (
  SELECT p.message_id, p.destination FROM ops.alert_deliveries p JOIN ops.alert_messages pm ON pm.id = p.message_id
  WHERE p.destination = :destination AND p.delivered_at IS NULL AND p.dead_at IS NULL
    AND p.next_attempt_at <= clock_timestamp() AND coalesce(p.leased_until < clock_timestamp(), true)
    -- in order: never the end before the beginning
    AND NOT EXISTS (SELECT FROM ops.alert_deliveries e JOIN ops.alert_messages em ON em.id = e.message_id
                    WHERE e.destination = p.destination AND em.incident_id = pm.incident_id
                      AND e.message_id < p.message_id AND e.delivered_at IS NULL AND e.dead_at IS NULL)
    -- a destination that asked for a pause gets it, from new messages too
    AND NOT EXISTS (SELECT FROM ops.alert_deliveries w
                    WHERE w.destination = p.destination AND w.delivered_at IS NULL AND w.dead_at IS NULL
                      AND w.retry_after_seconds IS NOT NULL AND w.next_attempt_at > clock_timestamp())
  -- one that is refused for what it says must not keep back the others
  ORDER BY p.attempts, p.message_id LIMIT 1 FOR UPDATE OF p SKIP LOCKED)
RETURNING d.message_id, m.incident_id, d.destination, d.attempts AS attempt, m.level, m.title, m.body
""")
DROP_UNHEARD = text("""
DELETE FROM ops.alert_deliveries d USING ops.alert_messages m
WHERE m.id = d.message_id AND m.event = 'resolved' AND m.level NOT IN ('critical', 'failure')
  AND d.destination = :destination AND d.delivered_at IS NULL AND d.dead_at IS NULL
  AND NOT EXISTS (SELECT FROM ops.alert_deliveries h JOIN ops.alert_messages hm ON hm.id = h.message_id
                  WHERE hm.incident_id = m.incident_id AND h.destination = d.destination
                    AND h.message_id < d.message_id AND h.dead_at IS NULL)
""")
COUNT = text("""
INSERT INTO ops.alert_totals (outcome, count) VALUES (:outcome, 1)
ON CONFLICT (outcome) DO UPDATE SET count = ops.alert_totals.count + 1
""")
NOTE_DELIVERED = text("""
UPDATE ops.alert_deliveries SET delivered_at = clock_timestamp(), leased_until = NULL
WHERE message_id = :message_id AND destination = :destination AND delivered_at IS NULL
""")
HURRY = text("""
UPDATE ops.alert_deliveries SET next_attempt_at = clock_timestamp()
WHERE destination = :destination AND delivered_at IS NULL AND dead_at IS NULL AND next_attempt_at > clock_timestamp()
""")
NOTE_FAILED = text("""
UPDATE ops.alert_deliveries d
SET leased_until = NULL, reason = :reason, http_status = :http_status, retry_after_seconds = :retry_after_seconds,
    next_attempt_at = clock_timestamp() + make_interval(secs => :wait),
    dead_at = CASE WHEN m.created_at < clock_timestamp() - make_interval(secs => :patience) THEN clock_timestamp() END
FROM ops.alert_messages m
WHERE m.id = d.message_id AND d.message_id = :message_id AND d.destination = :destination
  AND d.attempts = :attempt AND d.delivered_at IS NULL
RETURNING d.dead_at IS NOT NULL
""")
WAIT_TOO = text("""
UPDATE ops.alert_deliveries SET next_attempt_at = clock_timestamp() + make_interval(secs => :wait)
WHERE destination = :destination AND delivered_at IS NULL AND dead_at IS NULL AND leased_until IS NULL
  AND next_attempt_at < clock_timestamp() + make_interval(secs => :wait)
""")
FORGET = text("""
WITH gone AS (
  UPDATE ops.alert_deliveries SET dead_at = clock_timestamp(), leased_until = NULL, reason = 'destination removed'
  WHERE delivered_at IS NULL AND dead_at IS NULL AND NOT destination = ANY(:known)
  RETURNING message_id)
UPDATE ops.alert_incidents i SET told_at = NULL
WHERE i.resolved_at IS NULL AND i.closed_at IS NULL AND i.id IN (
  SELECT m.incident_id FROM ops.alert_messages m JOIN gone ON gone.message_id = m.id)
  AND NOT EXISTS (SELECT FROM ops.alert_messages m JOIN ops.alert_deliveries d ON d.message_id = m.id
                  WHERE m.incident_id = i.id AND d.destination = ANY(:known) AND d.dead_at IS NULL)
""")


def lease(db: Connection, *, destination: str) -> Leased | None:
    """Take the oldest message that is due for a destination, for `LEASE_SECONDS`; None when there is none."""
    db.execute(DROP_UNHEARD, {"destination": destination})
    row = db.execute(LEASE, {"destination": destination, "lease": LEASE_SECONDS}).one_or_none()
    if row is None:
        return None
    return Leased(
        message_id=row.message_id,
        incident_id=row.incident_id,
        destination=row.destination,
        attempt=row.attempt,
        message=Message(level=Level(row.level), title=row.title, body=row.body),
    )


def note_delivered(db: Connection, leased: Leased) -> None:
    """It arrived, so the destination answers: what waited for that goes at once."""
    found = db.execute(NOTE_DELIVERED, {"message_id": leased.message_id, "destination": leased.destination})
    if found.rowcount:
        db.execute(COUNT, {"outcome": DELIVERED})
        db.execute(HURRY, {"destination": leased.destination})


def note_failed(db: Connection, leased: Leased, failure: Failure) -> bool:
    """It did not arrive: it is tried again later, and with it all that goes to the same destination.

    Returns whether that was the last attempt.
    """
    wait = wait_seconds(leased.attempt, failure)
    values = {"destination": leased.destination, "wait": wait}
    failed = db.scalar(
        NOTE_FAILED,
        values
        | {"message_id": leased.message_id, "attempt": leased.attempt, "patience": PATIENCE_SECONDS}
        | {"reason": failure.reason, "http_status": failure.http_status}
        | {"retry_after_seconds": failure.retry_after_seconds},
    )
    db.execute(COUNT, {"outcome": failure.reason})
    db.execute(WAIT_TOO, values)
    return bool(failed)


def wait_seconds(attempt: int, failure: Failure) -> float:
    """How long to wait after the given attempt: doubling, give or take a tenth, and never less than was asked for."""
    longest = PROBE_WAIT_SECONDS if attempt < PROBE_ATTEMPTS else LONGEST_WAIT_SECONDS
    backoff = LONGEST_WAIT_SECONDS if failure.lasting else min(longest, FIRST_WAIT_SECONDS * 2 ** min(attempt - 1, 10))
    jitter = random.uniform(0.9, 1.1)  # noqa: S311  # spreads retries; guards nothing
    return max(backoff * jitter, min(failure.retry_after_seconds or 0.0, PATIENCE_SECONDS))


def forget_others(db: Connection, known: Sequence[str]) -> None:
    """Drop deliveries to removed destinations; what is active and was not reported elsewhere goes to the others."""
    db.execute(FORGET, {"known": list(known)})
