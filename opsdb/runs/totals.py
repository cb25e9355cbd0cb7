"""Counters that survive everything: what was counted lies in `metric_deltas` until it is added to `metric_totals`.

Whoever counts inserts a delta in the transaction of the event itself. Whoever reads adds both tables in one statement,
so a figure is exact at any instant and folding never moves it.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

FOLD_SECONDS = 2.0
BATCH = 20_000
"""How many deltas one transaction folds: far below a statement's time."""
FOLDING = 0x0B5DD
"""The lock of the one that folds."""

FOLD = text("""
WITH taken AS (
    DELETE FROM ops.metric_deltas WHERE id IN (SELECT id FROM ops.metric_deltas ORDER BY id LIMIT :batch) RETURNING *
), added AS (
    INSERT INTO ops.metric_totals AS t (name, kind, lane, label, count, value, latest_at)
    SELECT name, kind, lane, label, sum(count), sum(value), max(at) FROM taken GROUP BY name, kind, lane, label
    ON CONFLICT (name, kind, lane, label) DO UPDATE
    SET count = t.count + excluded.count, value = t.value + excluded.value,
        latest_at = greatest(t.latest_at, excluded.latest_at)
)
SELECT count(*) FROM taken
""")


def fold_deltas(db: Connection, *, batch: int = BATCH) -> int:
    """Add the oldest deltas to the totals, in the caller's transaction. Returns how many.

    While another one folds, this does nothing.
    """
    if not db.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": FOLDING}):
        return 0
    folded: int = db.execute(FOLD, {"batch": batch}).scalar_one()
    return folded
