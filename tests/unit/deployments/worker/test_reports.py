"""What a worker says of its runs."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, MagicMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES
from prefect.states import Crashed
from sqlalchemy.exc import OperationalError

from deployments.worker import reports as reports_module
from deployments.worker.reports import Reports
from opsdb.processes import exit_codes
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


class Recorded:
    """What a worker records of a run that Prefect does not have any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answers: bool = True) -> None:
        self.ends: list[dict[str, object]] = []
        self.judged: list[object] = []

        def end_deleted(_db: object, **how: object) -> None:
            if not answers:
                raise OperationalError("statement", {}, Exception("away"))
            self.ends.append(how)

        engine = MagicMock()
        monkeypatch.setattr(reports_module, "connect", lambda *_, **__: engine)
        monkeypatch.setattr(reports_module, "end_deleted", end_deleted)
        monkeypatch.setattr(reports_module, "judge_forced_end", lambda _db, **how: self.judged.append(how))


def test_end_of_a_run_that_was_deleted_in_prefect_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, client = Recorded(monkeypatch), AsyncMock()
    client.read_flow_run_states.return_value = []
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    assert asyncio.run(Reports(client, Settings()).set_state(run, 2, Crashed(message="killed")))
    client.set_flow_run_state.assert_not_called()
    assert recorded.ends == [
        {"run_id": run.id, "attempt": 2, "type_": "CRASHED", "name": "Crashed", "message": "killed"}
    ]


def test_end_of_a_deleted_run_is_left_to_the_sweeper_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Recorded(monkeypatch, answers=False)
    client = AsyncMock()
    client.read_flow_run_states.return_value = []
    assert not asyncio.run(Reports(client, Settings()).set_state(FlowRun(flow_id=uuid4()), 1, Crashed()))


def test_process_that_found_its_run_ended_says_so_by_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, client = Recorded(monkeypatch), AsyncMock()
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    assert not asyncio.run(Reports(client, Settings()).report_end(run, 1, exit_codes.FENCED))
    assert recorded.judged == [{"run_id": run.id, "attempt": 1}]
    client.set_flow_run_state.assert_not_called()
