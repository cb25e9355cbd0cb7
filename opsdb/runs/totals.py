"""Counters that survive everything: what was counted lies in `metric_deltas` until it is added to `metric_totals`.

Whoever counts inserts a delta in the transaction of the event itself. Whoever reads adds both tables in one statement,
so a figure is exact at any instant and folding never moves it.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Column, Connection, Identity, Numeric, Text, text
from sqlmodel import Field

from opsdb.room_locks import Lock, try_lock
from opsdb.schema import Table, time_column
from opsdb.watch import Mark, keep_watch

FOLD_SECONDS = 2.0
BATCH = 20_000
"""How many deltas one transaction folds: far below a statement's time."""
OUTAGE_SECONDS = 60.0
"""Without a fold for so long, nobody folds."""

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


class MetricTotal(Table, table=True):
    """A counter as far as it is folded, or one bucket of a histogram: what it counted, summed up, and saw last."""

    __tablename__ = "metric_totals"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    lane: str = Field(sa_column=Column(Text, primary_key=True))
    label: str = Field(sa_column=Column(Text, primary_key=True))
    count: int = Field(sa_column=Column(BigInteger, nullable=False))
    value: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    latest_at: datetime | None = Field(default=None, sa_column=time_column())


class MetricDelta(Table, table=True):
    """Something that was counted and is not in `metric_totals` yet. Append-only, but for the folding."""

    __tablename__ = "metric_deltas"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False))
    kind: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    lane: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    label: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    count: int = Field(default=1, sa_column=Column(BigInteger, nullable=False, server_default="1"))
    value: Decimal = Field(default=Decimal(0), sa_column=Column(Numeric, nullable=False, server_default="0"))
    at: datetime | None = Field(default=None, sa_column=time_column())


def fold_deltas(db: Connection, *, batch: int = BATCH) -> int:
    """Add the oldest deltas to the totals, in the caller's transaction, and note that somebody does. Returns how many.

    While another one folds, this does nothing.
    """
    if not try_lock(db, Lock.TOTALS):
        return 0
    keep_watch(db, Mark.TOTALS, outage_seconds=OUTAGE_SECONDS)
    folded: int = db.execute(FOLD, {"batch": batch}).scalar_one()
    return folded
