"""What Prefect calls a flow run, in the room's own terms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from opsdb.runs.prefect_runs import facts_of

PLANNED = datetime(2026, 1, 1, tzinfo=UTC)
DUE = PLANNED + timedelta(days=3)


@pytest.mark.parametrize(("scheduled", "created_at"), [(True, DUE), (False, PLANNED)])
def test_what_a_schedule_planned_is_asked_for_when_it_is_due(scheduled: bool, created_at: datetime) -> None:
    flow_run = FlowRun(
        flow_id=uuid4(),
        tags=["runbook"],
        work_pool_name="lane-a",
        created=PLANNED,
        expected_start_time=DUE,
        auto_scheduled=scheduled,
    )
    facts = facts_of(flow_run, kind="backup")
    assert facts is not None
    assert facts.created_at == created_at
