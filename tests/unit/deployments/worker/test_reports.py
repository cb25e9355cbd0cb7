"""What a worker says of its runs."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES
from prefect.states import Crashed

from deployments.worker.reports import Reports
from opsdb.settings import Settings
from opsdb.states import APPROVAL
from tests.unit.deployments.worker.test_lane_worker import states


@pytest.mark.parametrize("then", [[], [StateType.SCHEDULED], [StateType.SCHEDULED, StateType.PENDING]])
def test_death_of_a_process_that_had_suspended_its_run_is_no_end_of_the_run(then: list[StateType]) -> None:
    client = AsyncMock()
    known = states(StateType.RUNNING, StateType.PAUSED, *then)
    known[1].message = f"{APPROVAL} until noon: deploy?"
    client.read_flow_run_states.return_value = known
    reports = Reports(client, Settings())
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    assert asyncio.run(reports.set_state(run, 1, Crashed()))
    client.set_flow_run_state.assert_not_called()
    client.read_flow_run_states.return_value = states(StateType.RUNNING)
    assert asyncio.run(reports.set_state(run, 1, Crashed()))
    client.set_flow_run_state.assert_called_once()


def test_what_is_said_of_a_run_is_not_said_again_without_a_look_at_it() -> None:
    # the client would repeat what arrived, though its answer did not: over an attempt that began meanwhile
    client = AsyncMock()
    client.read_flow_run_states.return_value = states(StateType.RUNNING)
    tries: list[int] = []
    client.set_flow_run_state.side_effect = lambda *_, **__: tries.append(PREFECT_CLIENT_MAX_RETRIES.value())
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    assert asyncio.run(Reports(client, Settings()).set_state(run, 1, Crashed()))
    assert tries == [0]
