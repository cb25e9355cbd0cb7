"""What Prefect says of lanes and schedules, kept for those who do not ask it: the exporter and the alerter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

KEEP_LIMITS = text("""
INSERT INTO ops.lane_limits AS l (lane, slots)
SELECT lane, slots FROM jsonb_to_recordset(CAST(:limits AS jsonb)) AS f(lane text, slots int)
ON CONFLICT (lane) DO UPDATE SET slots = excluded.slots, updated_at = clock_timestamp()
""")
# what the room paused itself stays a fault for as long as nobody changes it
KEEP_PLANS = text("""
INSERT INTO ops.schedule_plans AS s (id, deployment, name, expression, active, planned_at, fault, unplanned_since)
SELECT id, deployment, name, expression, active, planned_at, fault, CASE WHEN unplanned THEN clock_timestamp() END
FROM jsonb_to_recordset(CAST(:plans AS jsonb)) AS f(id uuid, deployment text, name text, expression text, active bool,
                                                    planned_at timestamptz, fault text, unplanned bool)
ON CONFLICT (id) DO UPDATE
SET deployment = excluded.deployment, name = excluded.name, expression = excluded.expression, active = excluded.active,
    planned_at = excluded.planned_at,
    fault = coalesce(excluded.fault,
                     CASE WHEN NOT excluded.active AND s.expression = excluded.expression THEN s.fault END),
    unplanned_since = CASE WHEN excluded.unplanned_since IS NOT NULL
                           THEN coalesce(s.unplanned_since, excluded.unplanned_since) END,
    updated_at = clock_timestamp()
""")
FORGET_PLANS = text("DELETE FROM ops.schedule_plans WHERE NOT id = ANY(:ids)")


@dataclass(frozen=True, kw_only=True)
class SchedulePlan:
    """A schedule as Prefect has it now."""

    id: UUID
    deployment: str
    """As Prefect names it: kind/name."""
    name: str
    expression: str
    active: bool
    """Whether Prefect is to plan runs of it: neither it nor its deployment is paused."""
    planned_at: datetime | None
    """When the first run is due that Prefect planned of it."""
    unplanned: bool
    """Whether it should have a planned run, and has none."""
    fault: str | None = None
    """Why it never fires, with what would be right."""


def keep_limits(db: Connection, limits: Mapping[str, int | None]) -> None:
    """Note how many runs each lane executes at once: 0 while it is paused, None for any number."""
    rows = [{"lane": lane, "slots": slots} for lane, slots in limits.items()]
    db.execute(KEEP_LIMITS, {"limits": json.dumps(rows)})


def keep_plans(db: Connection, plans: Sequence[SchedulePlan]) -> None:
    """Note all schedules that there are. Others are forgotten."""
    db.execute(KEEP_PLANS, {"plans": json.dumps([asdict(plan) for plan in plans], default=str)})
    db.execute(FORGET_PLANS, {"ids": [plan.id for plan in plans]})
