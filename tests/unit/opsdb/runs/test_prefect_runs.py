"""What Prefect calls a flow run, in the room's own terms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Paused, Running, Scheduled

from opsdb.runs.prefect_runs import facts_of, state_of

PLANNED = datetime(2026, 1, 1, tzinfo=UTC)
DUE, MISSED = PLANNED + timedelta(days=3), PLANNED - timedelta(days=1)


@pytest.mark.parametrize(
    ("scheduled", "due_at", "created_at"),
    [
        (True, DUE, DUE),
        (True, MISSED, MISSED),  # planned after an absence
        (True, None, PLANNED),
        (False, DUE, DUE),
        (False, MISSED, PLANNED),
        (False, None, PLANNED),
    ],
)
def test_what_was_planned_ahead_is_asked_for_when_it_is_due(
    scheduled: bool, due_at: datetime | None, created_at: datetime
) -> None:
    flow_run = FlowRun(
        flow_id=uuid4(),
        tags=["runbook"],
        work_pool_name="lane-a",
        created=PLANNED,
        expected_start_time=due_at,
        auto_scheduled=scheduled,
    )
    facts = facts_of(flow_run, kind="backup")
    assert facts is not None
    assert facts.created_at == created_at


def test_state_says_before_when_nobody_starts_it() -> None:
    assert state_of(Scheduled(scheduled_time=DUE)).due_at == DUE
    assert state_of(Scheduled(name="AwaitingConcurrencySlot", scheduled_time=DUE)).due_at is None  # tried again soon
    assert state_of(Running()).due_at is None
    assert state_of(Paused(pause_expiration_time=DUE)).due_at is None
