"""What can be alerted of, and the episodes of runs that the sweeper ended.

An episode is one period in which a rule held for one subject. Its row is written by whoever sees it begin, in the
transaction that makes it true; `opsdb.alerts.incidents` groups episodes and writes the messages, later and elsewhere.
So the sweeper waits for nobody, and what it ended is reported even if it is over long before anybody looks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, text

from opsdb.states import NOT_TRIED_AGAIN, REQUEUE_WITHIN, TRIED_AGAIN_WITHIN, FenceReason

ROOM = "room"
"""Stands for the lane of what belongs to no lane."""


class Rule(StrEnum):
    """What an alert can be about."""

    STUCK = "stuck"
    OVERDUE = "overdue"
    CLAIM = "claim"
    QUEUED = "queued"
    FAILED = "failed"
    APPROVAL = "approval"
    BACKUP = "backup"
    LEFTOVERS = "leftovers"
    WORKER_LOST = "worker_lost"
    SYNC_BEHIND = "sync_behind"
    SCHEDULE = "schedule"

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        mild = (Rule.OVERDUE, Rule.CLAIM, Rule.QUEUED, Rule.FAILED, Rule.APPROVAL)
        return Severity.WARNING if self in mild else Severity.CRITICAL

    @property
    def calm(self) -> bool:
        """Whether the end of an episode is reported after a delay, since the cause may soon come back."""
        return not self.final and self is not Rule.APPROVAL

    @property
    def final(self) -> bool:
        """Whether an episode of it, once over, cannot come back: the attempt it was about has ended."""
        return self in RULE_OF_FENCE.values()


class Severity(StrEnum):
    """How bad it is: critical needs somebody now, a warning can wait for the morning."""

    CRITICAL = "critical"
    WARNING = "warning"


RULE_OF_FENCE = {
    FenceReason.HEARTBEAT_TIMEOUT: Rule.STUCK,
    FenceReason.DEADLINE_EXCEEDED: Rule.OVERDUE,
    FenceReason.CLAIM_TIMEOUT: Rule.CLAIM,
}
"""Which rule a run breaks that was taken from its process. A cancellation that nobody else carried out is not
an incident."""
FINAL = [rule.value for rule in Rule if rule.final]

OPEN_FENCED = text("""
INSERT INTO ops.alert_episodes (rule, lane, subject, kind, run_id, facts)
SELECT CAST(:rule_of_fence AS jsonb) ->> r.fence_reason, r.lane::text, r.id || '/' || r.attempt, r.kind, r.id,
       jsonb_build_object(
         'attempt', r.attempt, 'worker', r.claimed_by, 'session', s.name, 'deadline_at', r.deadline_at,
         'silent_seconds', round(extract(epoch FROM clock_timestamp() - r.heartbeat_at)::numeric, 1))
FROM ops.runs r JOIN ops.sessions s ON s.id = r.session_id
WHERE r.id = ANY(:ids) AND r.outcome IS NULL
      AND CAST(:rule_of_fence AS jsonb) ->> r.fence_reason IS NOT NULL
ON CONFLICT DO NOTHING
""")

OPEN_CRASHED = text("""
INSERT INTO ops.alert_episodes (rule, lane, subject, kind, run_id, facts)
SELECT :rule, r.lane::text, r.id || '/' || r.attempt, r.kind, r.id,
       jsonb_build_object(
         'attempt', r.attempt, 'worker', r.claimed_by, 'session', s.name, 'error', left(st.message, 200),
         'silent_seconds', round(extract(epoch FROM clock_timestamp() - r.heartbeat_at)::numeric, 1))
FROM ops.runs r JOIN ops.sessions s ON s.id = r.session_id JOIN ops.run_states st ON st.id = r.state_id
WHERE r.id = :id AND st.type = 'CRASHED' AND r.outcome IS NULL
      AND r.updated_at - make_interval(hours => 1) < r.state_at  -- not what Prefect remembers of last week
      AND r.error->>'type' IS DISTINCT FROM 'Terminated'  -- it was stopped, as by `ops down`
      AND NOT EXISTS (SELECT FROM ops.alert_episodes e WHERE e.rule = ANY(:final)
                      AND e.subject = r.id || '/' || r.attempt)
ON CONFLICT DO NOTHING
""")

# over is over: not while the room may yet try again what died, nor while that other attempt lasts. It has an hour for
# that while Prefect is away, or nobody has said that the processes are gone.
RESOLVE_FENCED = text("""
UPDATE ops.alert_episodes e SET resolved_at = clock_timestamp()
FROM ops.alert_episodes o LEFT JOIN ops.runs r ON r.id = o.run_id LEFT JOIN ops.run_states st ON st.id = r.state_id
WHERE e.id = o.id AND o.resolved_at IS NULL AND o.rule = ANY(:final)
      AND (r.id IS NULL
           OR (r.finished_at IS NOT NULL
               AND NOT (r.status = 'failed' AND st.type = 'CRASHED' AND r.deleted_at IS NULL
                        AND (r.max_attempts > 1 OR (r.started_at IS NULL AND r.claimed_at IS NOT NULL))
                        AND NOT st.name = ANY(:not_tried_again)
                        AND EXISTS (SELECT FROM ops.sessions s WHERE s.id = r.session_id AND s.status <> 'cancelled')
                        AND r.updated_at > clock_timestamp() - CASE
                          WHEN :hearing AND (r.fenced_at IS NULL OR r.reaped_at IS NOT NULL)
                          THEN CAST(:tried_again_within AS interval) ELSE CAST(:requeue_within AS interval) END)))
""")


def open_fenced(db: Connection, run_ids: Sequence[UUID]) -> None:
    """Open the episodes of runs that this transaction fences. A run that was only cancelled, or recorded its outcome,
    is not an incident."""
    if run_ids:
        db.execute(OPEN_FENCED, {"ids": list(run_ids), "rule_of_fence": json.dumps(RULE_OF_FENCE)})


def open_crashed(db: Connection, run_id: UUID) -> None:
    """Open the episode of a run whose process died while its worker lived: nobody waited for its heartbeat."""
    db.execute(OPEN_CRASHED, {"id": run_id, "rule": Rule.STUCK.value, "final": FINAL})


def resolve_fenced(db: Connection, *, hearing: bool) -> None:
    """End the episodes of runs that are over, in whatever attempt, or are gone.

    Which of those that died are tried again says `opsdb.runs.retries`. Here all count that may be, for as long as that
    takes. `hearing`: whether Prefect answers, without which nothing is tried again.
    """
    values = {"final": FINAL, "not_tried_again": list(NOT_TRIED_AGAIN), "hearing": hearing}
    values |= {"tried_again_within": TRIED_AGAIN_WITHIN, "requeue_within": REQUEUE_WITHIN}
    db.execute(RESOLVE_FENCED, values)
