"""The rules that are looked at again and again: what holds now opens episodes, what holds no more ends them.

Each query gives the subjects of which its rule holds now. `ripe` is false where that may be the mark of an outage in
which nobody could have done better: such a subject opens nothing, and what is open stays open. All ages are by the
database's clock; what an index is to find is compared with statement_timestamp(), which stands still meanwhile.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from opsdb.alerts.endings import ABOUT, LOOKED_BACK, note_ends
from opsdb.alerts.episodes import Rule, resolve_fenced
from opsdb.alerts.thresholds import Thresholds
from opsdb.database import GONE, first_line
from opsdb.proven import SUCCEEDED
from opsdb.watch import Mark, is_fresh, keep_watch

log = logging.getLogger(__name__)

OUTAGE_SECONDS = 15.0
"""When nobody looked for longer, the time of what could not be seen meanwhile starts again."""

QUERIES = {
    Rule.QUEUED: """
        SELECT r.id || '/' || r.attempt AS subject, r.lane::text AS lane, r.kind, r.id AS run_id,
               jsonb_build_object('attempt', r.attempt, 'session', s.name, 'priority', r.priority,
                                  'waiting_since', since.at) AS facts,
               extract(epoch FROM clock_timestamp() - greatest(since.at, p.at)) > t.seconds AS ripe
        FROM ops.runs r
             JOIN ops.sessions s ON s.id = r.session_id
             -- Scheduled may be planned for next week; the others are due
             JOIN ops.run_states st ON st.id = r.state_id
                  AND st.name IN ('Late', 'AwaitingRetry', 'Resuming', 'AwaitingConcurrencySlot')
             JOIN ops.sync_marks p ON p.name = 'prefect',
             LATERAL (SELECT coalesce((CAST(:by_kind AS jsonb) ->> r.kind)::float8, :seconds) AS seconds) t,
             -- while its deployment has no slot Prefect gives it a new state twice a minute
             LATERAL (SELECT CASE WHEN st.name <> 'AwaitingConcurrencySlot' THEN greatest(st.recorded_at, r.due_at)
                                  WHEN r.attempt > 1 THEN coalesce(r.due_at, st.recorded_at)
                                  -- of one that was planned and is wanted sooner, created_at is ahead
                                  ELSE greatest(CASE WHEN r.created_at < clock_timestamp() THEN r.created_at END,
                                                r.due_at) END AS at) since
        WHERE r.status = 'queued' AND r.finished_at IS NULL
              AND extract(epoch FROM clock_timestamp() - since.at) > t.seconds
              -- one that was postponed has had its turn: while its lane works, it only has to wait for another one
              AND NOT (st.name = 'Late' AND r.attempt > 1 AND EXISTS (
                SELECT FROM ops.runs o WHERE o.lane = r.lane AND o.finished_at IS NULL
                AND o.status IN ('claimed', 'running')))""",
    # the last success of each kind and subject is looked up once: no failed run looks through all that succeeded
    Rule.FAILED: f"""
        WITH bad AS MATERIALIZED (
          SELECT r.id, r.attempt, r.lane, r.kind, r.session_id, r.claimed_by, r.finished_at, r.updated_at, t.seconds,
                 {ABOUT} AS about
          FROM ops.runs r,
               LATERAL (SELECT coalesce((CAST(:by_kind AS jsonb) ->> r.kind)::float8, :seconds) AS seconds) t
          WHERE r.finished_at > statement_timestamp() - interval '{LOOKED_BACK}' AND r.status = 'failed'
                AND r.updated_at > clock_timestamp() - interval '1 day' AND t.seconds < 'Infinity'),
        good AS MATERIALIZED (
          SELECT r.kind, {ABOUT} AS about, max(r.finished_at) AS at
          FROM ops.runs r
          WHERE EXISTS (SELECT FROM bad) AND r.kind IN (SELECT kind FROM bad) AND {SUCCEEDED}
                AND r.finished_at > statement_timestamp() - interval '{LOOKED_BACK}'
          GROUP BY 1, 2)
        -- a session that tries the same thing again, as a night does, says nothing new when that fails, too
        SELECT DISTINCT ON (bad.kind, bad.session_id, coalesce(nullif(bad.about, ''), bad.id::text))
               bad.id || '/' || bad.attempt AS subject, bad.lane::text AS lane, bad.kind, bad.id AS run_id,
               jsonb_build_object('attempt', bad.attempt, 'session', s.name, 'worker', bad.claimed_by) AS facts,
               extract(epoch FROM clock_timestamp() - bad.updated_at) > bad.seconds AS ripe
        FROM bad
             JOIN ops.sessions s ON s.id = bad.session_id
             LEFT JOIN good ON good.kind = bad.kind AND good.about = bad.about
        WHERE (good.at > bad.finished_at) IS NOT TRUE
              -- those are reported as stuck, overdue or not started, up to the end of whatever attempt
              AND NOT EXISTS (SELECT FROM ops.alert_episodes o WHERE o.rule IN ('stuck', 'overdue', 'claim')
                              AND o.run_id = bad.id
                              AND (o.resolved_at IS NULL OR o.resolved_at >= bad.finished_at))
        ORDER BY bad.kind, bad.session_id, coalesce(nullif(bad.about, ''), bad.id::text), bad.finished_at, bad.id""",  # noqa: S608 - a constant
    Rule.APPROVAL: """
        SELECT r.id || '/' || r.attempt AS subject, r.lane::text AS lane, r.kind, r.id AS run_id,
               jsonb_build_object('attempt', r.attempt, 'session', s.name, 'asked', st.id,
                                  'until', substring(st.message FROM 'until ([0-9: -]+ UTC)'),
                                  'question', left(substring(st.message FROM 'until [0-9: -]+ UTC: (.*)$'), 1000))
                 AS facts, true AS ripe
        FROM ops.runs r
             JOIN ops.sessions s ON s.id = r.session_id
             JOIN ops.run_states st ON st.id = r.state_id AND st.type = 'PAUSED'
                                       AND st.message LIKE 'waits for approval%'
        WHERE r.status = 'queued' AND r.finished_at IS NULL
              AND extract(epoch FROM clock_timestamp() - st.recorded_at) > :seconds""",
    # what is open stays open, however long nobody tries
    Rule.BACKUP: """
        SELECT d.database AS subject, 'room' AS lane, 'odoo_db_backup' AS kind, NULL::uuid AS run_id,
               jsonb_build_object('database', d.database, 'verified_at', d.last_verified_at,
                                  'last_error', d.last_error) AS facts, true AS ripe
        FROM ops.databases d
        WHERE (d.watched OR EXISTS (SELECT FROM ops.alert_episodes e WHERE e.rule = 'backup'
                                    AND e.subject = d.database AND e.resolved_at IS NULL))
              AND extract(epoch FROM statement_timestamp() - coalesce(d.last_verified_at, d.first_tried_at)) > :seconds
        """,
    Rule.LEFTOVERS: """
        SELECT DISTINCT ON (r.id) r.id || '/' || r.attempt AS subject, r.lane::text AS lane, r.kind, r.id AS run_id,
               jsonb_build_object('attempt', r.attempt, 'session', s.name, 'worker', r.claimed_by,
                                  'pids', e.data->'pids') AS facts,
               extract(epoch FROM clock_timestamp() - e.created_at) > :seconds AS ripe
        FROM ops.run_events e JOIN ops.runs r ON r.id = e.run_id JOIN ops.sessions s ON s.id = r.session_id
        WHERE e.level = 'error' AND e.created_at > statement_timestamp() - interval '1 day'
              AND (e.data->'pids' IS NOT NULL OR e.data->>'reaped' = 'false')
              AND r.reaped_at IS NULL AND coalesce((e.data->>'attempt')::int, r.attempt) = r.attempt
        ORDER BY r.id, e.created_at""",
    Rule.WORKER_LOST: """
        SELECT w.host AS subject, 'room' AS lane, NULL AS kind, NULL::uuid AS run_id,
               jsonb_build_object('worker', max(w.name), 'lanes', jsonb_agg(DISTINCT w.lane),
                                  'heartbeat_at', max(w.heartbeat_at)) AS facts,
               extract(epoch FROM clock_timestamp() - greatest(max(w.heartbeat_at), CAST(:since AS timestamptz)))
                 > :seconds AS ripe
        FROM ops.workers w
        WHERE extract(epoch FROM clock_timestamp() - w.heartbeat_at) > :seconds
              AND NOT EXISTS (SELECT FROM ops.workers o WHERE o.host = w.host AND o.lane = w.lane
                              AND extract(epoch FROM clock_timestamp() - o.heartbeat_at) <= :seconds)
        GROUP BY w.host""",
    Rule.SYNC_BEHIND: """
        SELECT 'sync' AS subject, 'room' AS lane, NULL AS kind, NULL::uuid AS run_id,
               jsonb_build_object('missing', CASE WHEN sweep.updated_at > clock_timestamp() - interval '15 s'
                                                  THEN 'prefect' ELSE 'sync' END,
                                  'heard_at', sync.updated_at) AS facts,
               extract(epoch FROM clock_timestamp() - greatest(sync.updated_at, CAST(:since AS timestamptz)))
                 > :seconds AS ripe
        FROM ops.sync_marks sync LEFT JOIN ops.sync_marks sweep ON sweep.name = 'sweep'
        WHERE sync.name = 'sync' AND extract(epoch FROM clock_timestamp() - sync.updated_at) > :seconds""",
    Rule.SCHEDULE: """
        SELECT DISTINCT ON (subject) p.deployment || ' ' || p.name AS subject, 'room' AS lane,
               split_part(p.deployment, '/', 1) AS kind, NULL::uuid AS run_id,
               jsonb_build_object('deployment', p.deployment, 'schedule', p.name, 'expression', p.expression,
                                  'error', coalesce(p.fault, 'Prefect planned no run of it')) AS facts,
               p.fault IS NOT NULL
                 OR extract(epoch FROM clock_timestamp() - greatest(p.unplanned_since, CAST(:since AS timestamptz)))
                    > :seconds AS ripe
        FROM ops.schedule_plans p
        WHERE p.fault IS NOT NULL
              OR (p.active AND extract(epoch FROM clock_timestamp() - p.unplanned_since) > :seconds)
        ORDER BY subject, p.fault NULLS LAST""",
}

NEEDS_SYNC = (Rule.QUEUED, Rule.FAILED, Rule.APPROVAL, Rule.SCHEDULE)
"""Rules about what Prefect says: while nobody hears it, the outage is reported, not each run."""

KNOWN = text("""
SELECT id, subject, resolved_at FROM ops.alert_episodes WHERE rule = :rule AND incident_id IS NULL
UNION ALL
SELECT e.id, e.subject, e.resolved_at
FROM ops.alert_incidents i JOIN ops.alert_episodes e ON e.incident_id = i.id
WHERE i.rule = :rule AND i.closed_at IS NULL
ORDER BY id
""")
"""Open episodes, and those that may be continued."""
TRIED_AGAIN = text("""
SELECT e.subject FROM ops.alert_episodes e JOIN ops.runs r ON r.id = e.run_id
WHERE e.rule = 'failed' AND e.resolved_at IS NULL AND r.finished_at IS NULL
""")
"""Failures whose run somebody has tried again: what comes of that is not known yet."""
RESOLVE = text("UPDATE ops.alert_episodes SET resolved_at = clock_timestamp() WHERE id = ANY(:ids)")
REOPEN = text(
    "UPDATE ops.alert_episodes SET resolved_at = NULL, facts = facts - 'forgotten_at' - 'resolved_by' "
    "WHERE id = ANY(:ids)"
)
OPEN = text("""
INSERT INTO ops.alert_episodes (rule, lane, subject, kind, run_id, facts)
SELECT :rule, lane, subject, kind, run_id, facts
FROM jsonb_to_recordset(CAST(:found AS jsonb)) AS f(lane text, subject text, kind text, run_id uuid, facts jsonb)
ON CONFLICT DO NOTHING
""")

FORGET = text("""
UPDATE ops.alert_episodes
SET resolved_at = clock_timestamp(), facts = facts || jsonb_build_object('forgotten_at', clock_timestamp())
WHERE rule = 'backup' AND subject = :database AND resolved_at IS NULL
""")


def apply_rules(db: Connection, thresholds: Thresholds) -> None:
    """Apply every rule once. Episodes open and end in the caller's transaction.

    A rule that fails keeps no other from being looked at.
    """
    seen = keep_watch(db, Mark.ALERTER, outage_seconds=OUTAGE_SECONDS)
    hearing = is_fresh(db, Mark.PREFECT, outage_seconds=OUTAGE_SECONDS)
    resolve_fenced(db, hearing=hearing)
    for rule in QUERIES:
        if rule not in NEEDS_SYNC or hearing:
            try:
                with db.begin_nested():
                    _apply(db, rule, thresholds, since=seen.since)
            except DBAPIError as error:
                if isinstance(error, GONE):
                    raise
                log.warning("the rule %s could not be looked at: %s", rule, first_line(error))


def forget_database(db: Connection, database: str) -> bool:
    """End the alert that a database has no verified backup, until somebody tries to back it up again.

    False when there is no such alert.
    """
    return bool(db.execute(FORGET, {"database": database}).rowcount)


def _apply(db: Connection, rule: Rule, thresholds: Thresholds, *, since: datetime) -> None:
    query = QUERIES[rule]
    values: dict[str, Any] = {"seconds": thresholds.rules[rule]}
    if ":since" in query:
        values["since"] = since
    if ":by_kind" in query:
        # JSON has no infinity, PostgreSQL's cast from its text has
        values["by_kind"] = json.dumps({kind: str(value) for kind, value in thresholds.kinds_of(rule).items()})
    # first, so that an episode which an operator ends meanwhile is not taken for one that ended before
    known = {row.subject: row for row in db.execute(KNOWN, {"rule": rule.value})}
    # compared here and not in SQL: planned without statistics, 10,000 subjects took the server more than 30 s
    found = {} if thresholds.off(rule) else {row.subject: row for row in db.execute(text(query), values)}
    lasting = {row.subject for row in db.execute(TRIED_AGAIN)} if rule is Rule.FAILED else set()
    if over := [row.id for row in known.values() if row.resolved_at is None and row.subject not in {*found, *lasting}]:
        db.execute(RESOLVE, {"ids": over})
        note_ends(db, rule, over)
    ripe = [row for row in found.values() if row.ripe]
    again = [known[row.subject].id for row in ripe if row.subject in known and known[row.subject].resolved_at]
    if again:
        db.execute(REOPEN, {"ids": again})
    if new := [row for row in ripe if row.subject not in known]:
        columns = ("lane", "subject", "kind", "run_id", "facts")
        rows = [{name: getattr(row, name) for name in columns} for row in new]
        db.execute(OPEN, {"rule": rule.value, "found": json.dumps(rows, default=str)})
