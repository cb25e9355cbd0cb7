"""What a worker claims, and what it leaves alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock, MagicMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import get_current_settings

from deployments.worker.admission import Deployments
from deployments.worker.due_runs import POLL_SECONDS, DueRuns
from deployments.worker.lane_worker import LaneWorker
from deployments.worker.reports import Reports
from opsdb.runs.prefect_runs import facts_of
from opsdb.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)


def states(*types: StateType) -> list[State[None]]:
    return [State(type=each, timestamp=START + timedelta(seconds=number)) for number, each in enumerate(types)]


@pytest.mark.parametrize(("due", "polled"), [(0, 0), (1, 4)])
def test_lanes_are_polled_when_something_is_due_which_is_asked_once_for_all(
    monkeypatch: pytest.MonkeyPatch, due: int, polled: int
) -> None:
    monkeypatch.setattr(LaneWorker, "_due", DueRuns())
    client = AsyncMock()
    client.count_flow_runs.return_value = due
    workers = [LaneWorker(f"lane-{letter}") for letter in "abcd"]

    async def look() -> None:
        now = asyncio.get_running_loop().time()
        for worker in workers:
            worker._client, worker.clock_ahead = client, timedelta(hours=1)
            worker._due._polled_at[worker._work_pool_name] = now
            await worker._get_scheduled_flow_runs()

    asyncio.run(look())
    client.count_flow_runs.assert_awaited_once()
    until = client.count_flow_runs.await_args.kwargs["flow_run_filter"].next_scheduled_start_time.before_
    assert until - datetime.now(UTC) > timedelta(minutes=59)  # by the database's clock
    assert client.get_scheduled_flow_runs_for_work_pool.await_count == polled


def test_lane_without_a_run_is_polled_before_prefect_shows_it_as_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LaneWorker, "_due", DueRuns())
    worker, client = LaneWorker("lane-a"), AsyncMock()
    client.count_flow_runs.return_value = 0
    worker._client, worker.clock_ahead = client, timedelta(0)

    async def look(seconds_ago: float) -> int:
        worker._due._polled_at["lane-a"] = asyncio.get_running_loop().time() - seconds_ago
        await worker._get_scheduled_flow_runs()
        return int(client.get_scheduled_flow_runs_for_work_pool.await_count)

    assert asyncio.run(look(POLL_SECONDS - 1)) == 0
    assert asyncio.run(look(POLL_SECONDS)) == 1
    shown_as_ready = get_current_settings().server.services.foreman.work_queue_last_polled_timeout_seconds
    assert shown_as_ready > 2 * POLL_SECONDS


@pytest.mark.parametrize("then", [StateType.PENDING, StateType.RUNNING, StateType.COMPLETED, StateType.CANCELLED])
def test_run_that_another_worker_took_since_the_poll_is_left_alone(then: StateType) -> None:
    # it waited for its turn here, and Prefect would let even a completed run become Pending: it would run again
    worker = LaneWorker("lane-a")
    client = AsyncMock()
    client.read_flow_run_states.return_value = states(StateType.SCHEDULED, then)
    worker._client = client
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    assert asyncio.run(worker._claim(run)) is None
    client.set_flow_run_state.assert_not_called()


def test_run_that_was_deleted_since_the_poll_is_left_alone() -> None:
    worker, client = LaneWorker("lane-a"), AsyncMock()
    worker._client = client
    client.read_flow_run_states.return_value = []
    assert asyncio.run(worker._claim(FlowRun(id=uuid4(), flow_id=uuid4()))) is None
    client.set_flow_run_state.assert_not_called()


def test_run_is_recorded_as_a_runbook_though_somebody_took_its_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, client = LaneWorker("lane-a"), AsyncMock()
    worker._client, worker._deployments, worker._reports = client, AsyncMock(), MagicMock()
    client.read_flow_run_states.return_value = states(StateType.SCHEDULED)

    async def claimed(*_: object, **__: object) -> State[None]:
        return states(StateType.PENDING)[0]

    monkeypatch.setattr("deployments.worker.lane_worker.propose_state", claimed)
    run = FlowRun(id=uuid4(), flow_id=uuid4(), tags=["priority:3"])
    assert asyncio.run(worker._claim(run)) == 1
    recorded = worker._reports.record_claim.call_args.args[0]
    assert facts_of(recorded, kind="k") is not None


@pytest.mark.parametrize(
    ("since", "handed_back"),
    [([], True), ([StateType.SCHEDULED], False), ([StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING], False)],
)
def test_run_is_handed_back_only_while_it_is_ours(since: list[StateType], handed_back: bool) -> None:
    # the answer to the first try was lost: another worker may have the run by now
    worker = LaneWorker("lane-a")
    client = AsyncMock()
    known = states(StateType.SCHEDULED, StateType.PENDING, *since)
    client.read_flow_run_states.return_value = known
    worker._reports = Reports(client, Settings())
    worker.clock_ahead = timedelta(0)
    claimed = FlowRun(id=uuid4(), flow_id=uuid4(), state=known[1])
    asyncio.run(worker._hand_back(claimed, 1, "its worker is about to end"))
    assert client.set_flow_run_state.called == handed_back


@pytest.mark.parametrize("hours", [-1, 1])
def test_tick_is_judged_by_the_clock_of_the_database(hours: int) -> None:
    worker, ticks = LaneWorker("lane-a"), AsyncMock()
    worker._ticks, worker._deployments = ticks, AsyncMock()
    worker.clock_ahead = timedelta(hours=hours)
    due_at = datetime.now(UTC)
    run, deployment = FlowRun(id=uuid4(), flow_id=uuid4()), MagicMock()
    asyncio.run(worker._judge(run, due_at, deployment))
    now = ticks.judge.await_args.kwargs["now"]
    assert abs(now - due_at - timedelta(hours=hours)) < timedelta(minutes=1)


def test_what_no_schedule_wanted_is_not_judged() -> None:
    worker = LaneWorker("lane-a")
    worker._ticks = AsyncMock()
    assert asyncio.run(worker._judge(FlowRun(flow_id=uuid4()), None, MagicMock())).end is None
    worker._ticks.judge.assert_not_called()


def made_ready(monkeypatch: pytest.MonkeyPatch) -> tuple[LaneWorker, FlowRun]:
    """A worker that has claimed a run."""
    worker = LaneWorker("lane-a")
    worker._settings, worker.draining, worker.cut_off = Settings(), False, False
    worker.processes, worker._cancelled, worker._work_pool = {}, set(), None
    worker._reports, worker._deployed = AsyncMock(), AsyncMock()
    worker._deployed.entrypoints = {"flows.a.a"}
    worker._deployed.forks = MagicMock()
    monkeypatch.setattr(worker, "_claim", AsyncMock(return_value=1))
    return worker, FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=uuid4(), parameters={"new": 1})


def deployed(*parameters: str) -> MagicMock:
    schema: dict[str, dict[str, object]] = {"properties": {name: {} for name in parameters}}
    return MagicMock(
        entrypoint="flows.a.a", parameter_openapi_schema=schema, pull_steps=[], job_variables={}, tags=[], id=uuid4()
    )


def test_run_is_refused_by_what_is_deployed_now_and_not_by_what_was_read_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker, run = made_ready(monkeypatch)
    worker._client = AsyncMock()
    worker._client.read_deployment.side_effect = [deployed(), deployed("new"), deployed()]
    worker._deployments = Deployments(worker._client)
    monkeypatch.setattr(worker._deployments, "related", AsyncMock(return_value=()))
    monkeypatch.setattr(worker, "_start", start := AsyncMock())
    asyncio.run(worker._deployments.deployment(run))
    asyncio.run(worker._begin(run))
    start.assert_awaited_once()
    worker._reports.set_state.assert_not_called()  # type: ignore[attr-defined]
    run.parameters = {"other": 1}
    asyncio.run(worker._begin(run))
    assert worker._reports.set_state.call_args.args[2].name == "Refused"  # type: ignore[attr-defined]


def test_run_that_begins_while_its_worker_ends_is_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, run = made_ready(monkeypatch)
    monkeypatch.setattr("deployments.worker.lane_worker.entry_of", lambda *_: (None, None))
    process = MagicMock(started=AsyncMock())

    def fork(_task: object) -> MagicMock:
        worker.draining = True  # it takes long, and meanwhile those that run were told
        return process

    worker._deployed.forks.start = fork  # type: ignore[method-assign,assignment]
    asyncio.run(worker._start(run, 1, entrypoint="flows.a.a", known=()))
    process.terminate.assert_called_once()
