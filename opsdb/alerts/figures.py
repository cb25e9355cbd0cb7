"""Alerts in numbers: one statement, in plain SQL, for `ops alerts` and for the metrics."""

from __future__ import annotations

STATES = ("untold", "told", "silenced")
"""Of an episode that lasts."""
REASONS = (
    "timeout",
    "connection",
    "server",
    "rate_limited",
    "redirect",
    "configuration",
    "unexpected_answer",
    "error",
)
"""Why an attempt to deliver failed."""
DELIVERED = "delivered"
WATCH = "alerts"
"""The mark that the alerter leaves at each look."""

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
