"""What in Prefect keeps a queued run from its start, each with the command that takes it away.

All that Prefect's server looks at before it gives a run to a worker, or lets it be claimed: the lane and its queue, the
time of the run's state, and the concurrency limit of its deployment. Limits of tags and other global limits are for
tasks and code that asks for them: they hold up no start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from deployments.server.access import prefect_command
from opsdb.errors import UsageError
from opsdb.room_identity import VARIABLE, room_id
from opsdb.runs.lookup import short_id
from opsdb.states import AWAITS_SLOT
from opsdb.tables import Lane

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import FlowRun, WorkPool, WorkQueue
    from prefect.client.schemas.responses import DeploymentResponse

IN_A_SLOT = ("PENDING", "RUNNING")
"""The types of states that Prefect counts against limits."""
NAMED = 5
"""Runs that a line names."""
TAKE_OVER = (
    "leave it so while that room works; to work here, stop that room for good, then `ops down`, and restore again with "
    "`--take-over --replace` (docs/howto/moving-a-room.md)"
)


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Something that keeps a run from its start, or a lane from starting runs, and how it is taken away."""

    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found}: {self.advice}"


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What blocks a run in Prefect. Empty: a worker takes it as soon as the lane has a free slot."""

    obstacles: list[Obstacle]
    due: Obstacle | None = None
    """That it is not to start yet."""
    lane_open: bool = True
    """Whether its lane starts anything at all."""
    closed_queues: frozenset[str] = frozenset()
    """The queues of its lane that start nothing: what waits there goes before nobody."""
    slots: int | None = None
    """How many runs the lane executes at once; None for any number."""
    taken: int = 0
    """How many of them are taken, as Prefect counts."""

    @property
    def full(self) -> bool:
        """Whether every slot of the lane is taken."""
        return self.slots is not None and self.taken >= self.slots > 0


def read_hold(client: SyncPrefectClient, run_id: UUID, *, lane: Lane, slots: int, now: datetime) -> Hold:
    """What keeps a run of a lane from its start now; `slots` are those of a lane by the room's own settings.

    Raises UsageError when Prefect does not know the run, and what Prefect's client raises.
    """
    from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
    from prefect.exceptions import ObjectNotFound

    try:
        run = client.read_flow_run(run_id)
    except ObjectNotFound:
        raise UsageError(f"Prefect knows no run {run_id}: it may have been deleted there") from None
    named = WorkPoolFilter(name=WorkPoolFilterName(any_=[lane.pool]))
    pool = next(iter(client.read_work_pools(work_pool_filter=named)), None)
    queues = client.read_work_queues(work_pool_name=lane.pool) if pool else []
    closed = _closed(client, lane, pool, slots=slots)
    counted = {queue.id for queue in queues if not queue.is_paused}  # as Prefect does
    return Hold(
        obstacles=list(_obstacles(client, run, lane=lane, pool=pool, queues=queues, closed=closed)),
        due=not_due(run, now),
        lane_open=closed is None,
        closed_queues=frozenset(queue.name for queue in queues if closed_queue(lane, queue)),
        slots=pool.concurrency_limit if pool else 0,
        taken=_taken(client, counted) if pool and pool.concurrency_limit and counted else 0,
    )


def read_copy_of(client: SyncPrefectClient) -> str | None:
    """Which room this one is a copy of, in words; None for one that works in its own right."""
    variable = client.read_variable_by_name(VARIABLE)
    return room_id(variable.value if variable else None, otherwise="").copy_of  # type: ignore[arg-type]  # checked there


def closed_lane(lane: Lane, pool: WorkPool | None, *, slots: int, copy_of: str | None = None) -> Obstacle | None:
    """Why a lane starts nothing at all; `slots` are those of a lane by the room's own settings.

    `copy_of` is what `read_copy_of` returned: a copy is not resumed, for both rooms would do the same work.
    """
    if pool is None:
        return Obstacle(found=f"lane {lane} was deleted in Prefect", advice="`ops deploy` makes it again")
    if pool.is_paused and copy_of:
        return Obstacle(found=f"lane {lane} is paused, because this is a copy of {copy_of}", advice=TAKE_OVER)
    if pool.is_paused:
        command = prefect_command(f"work-pool resume {pool.name}")
        return Obstacle(
            found=f"lane {lane} is paused in Prefect and starts nothing",
            advice=f"resume the work pool {pool.name} in the Prefect UI, or `{command}`",
        )
    if pool.concurrency_limit == 0:
        return Obstacle(
            found=f"lane {lane} executes nothing: the concurrency limit of its work pool in Prefect is 0",
            advice=f"`{prefect_command(f'work-pool set-concurrency-limit {pool.name} {slots}')}`",
        )
    return None


def _closed(client: SyncPrefectClient, lane: Lane, pool: WorkPool | None, *, slots: int) -> Obstacle | None:
    copy_of = read_copy_of(client) if pool is not None and pool.is_paused else None
    return closed_lane(lane, pool, slots=slots, copy_of=copy_of)


def closed_queue(lane: Lane, queue: WorkQueue) -> Obstacle | None:
    """Why a queue of a lane starts nothing."""
    if queue.is_paused:
        command = prefect_command(f"work-queue resume {queue.name} --pool {lane.pool}")
        return Obstacle(
            found=f"queue {queue.name} of lane {lane} is paused in Prefect and starts nothing",
            advice=f"resume it in the Prefect UI, Work Pools, {lane.pool}, or `{command}`",
        )
    if queue.concurrency_limit == 0:
        return Obstacle(
            found=f"queue {queue.name} of lane {lane} executes nothing: its concurrency limit in Prefect is 0",
            advice=clear_queue(lane, queue.name),
        )
    return None


def clear_queue(lane: Lane, queue: str) -> str:
    """The command that takes the limit of a queue away."""
    return f"`{prefect_command(f'work-queue clear-concurrency-limit {queue} --pool {lane.pool}')}`"


def not_due(run: FlowRun, now: datetime) -> Obstacle | None:
    """Until when a run is not to start, and who said so."""
    state, due_at = run.state, run.next_scheduled_start_time
    if state is None or not state.is_scheduled() or due_at is None or due_at <= now or state.name == AWAITS_SLOT:
        return None
    end = f"`ops cancel {short_id(run.id)}` ends it"
    if run.auto_scheduled and due_at == run.expected_start_time:
        return Obstacle(found=f"it is scheduled for {_moment(due_at)}", advice=end)
    by = f" by {run.created_by.display_value}" if run.created_by and run.created_by.display_value else ""
    if due_at == run.expected_start_time:
        return Obstacle(found=f"it is planned for {_moment(due_at)}, as was said{by} when it was made", advice=end)
    said = f" ({state.message})" if state.message else ""
    found = f"it was set to {state.name} for {_moment(due_at)}{said}, at {_moment(state.timestamp)}"
    if not state.message:
        found += ", in Prefect's UI or over its API"
    return Obstacle(found=found, advice=f"setting it to Scheduled in the Prefect UI starts it at once, {end}")


def _obstacles(
    client: SyncPrefectClient,
    run: FlowRun,
    *,
    lane: Lane,
    pool: WorkPool | None,
    queues: Collection[WorkQueue],
    closed: Obstacle | None,
) -> Iterator[Obstacle]:
    if run.state is not None and not run.state.is_scheduled() and not run.state.is_paused():
        found = f"it is {run.state.name} in Prefect already"
        yield Obstacle(found=found, advice="the room's record follows within seconds, see `ops status` if it does not")
        return
    if closed is not None:
        yield closed
    queue = next((one for one in queues if one.id == run.work_queue_id), None)
    if run.work_queue_id is None:
        yield Obstacle(
            found=f"its queue {run.work_queue_name or ''} was deleted in Prefect: no worker sees it",
            advice="`ops deploy` makes the queue again and puts it there",
        )
    elif queue is not None:
        yield from filter(None, [closed_queue(lane, queue) or _full_queue(client, lane, queue)])
    elif pool is not None:
        found = (
            f"it waits in the work pool {run.work_pool_name}, which is not lane {lane}: no worker of the room asks it"
        )
        yield Obstacle(found=found, advice=f"`ops cancel {short_id(run.id)}`, and start it with `ops run`")
    if run.empirical_policy.retry_type == "in_process":
        found = "its own process waits to try it again: no worker takes it"
        yield Obstacle(found=found, advice=f"`ops cancel {short_id(run.id)}` if that process is gone")
    yield from _of_deployment(client, run)


def _full_queue(client: SyncPrefectClient, lane: Lane, queue: WorkQueue) -> Obstacle | None:
    limit = queue.concurrency_limit
    if limit is None or _taken(client, {queue.id}) < limit:
        return None
    found = f"queue {queue.name} of lane {lane} is full: its concurrency limit in Prefect is {limit}"
    return Obstacle(found=found, advice=f"wait, or {clear_queue(lane, queue.name)}")


def _of_deployment(client: SyncPrefectClient, run: FlowRun) -> Iterator[Obstacle]:
    from prefect.exceptions import ObjectNotFound

    cancel = f"`ops cancel {short_id(run.id)}` ends it"
    if run.deployment_id is None:
        return  # it is refused by its worker, which says so
    try:
        deployment = client.read_deployment(run.deployment_id)
    except ObjectNotFound:
        found = "its deployment was deleted in Prefect: no worker can claim it"
        yield Obstacle(found=found, advice=f"{cancel}; `ops deploy` makes the deployment again, for other runs")
        return
    limit, state, due_at = deployment.global_concurrency_limit, run.state, run.next_scheduled_start_time
    if limit is None:
        return
    if obstacle := limit_obstacle(client, deployment):
        yield obstacle
    elif limit.active_slots >= limit.limit:
        yield _full_deployment(client, deployment, limit=limit.limit, cancel=cancel)
    elif state is not None and state.name == AWAITS_SLOT and due_at is not None:
        found = f"it waited for its deployment {deployment.name}, which executes {limit.limit} at once"
        yield Obstacle(found=found, advice=f"it is tried again at {_moment(due_at)}")


def limit_obstacle(client: SyncPrefectClient, deployment: DeploymentResponse) -> Obstacle | None:
    """Why the concurrency limit of a deployment lets nothing start, ever."""
    limit = deployment.global_concurrency_limit
    update = prefect_command(f"gcl update deployment:{deployment.id}")
    nothing = f"its deployment {deployment.name} starts nothing: its own concurrency limit in Prefect"
    if limit is None:
        return None
    if not limit.active:
        return Obstacle(found=f"{nothing} is switched off, and so gives no slot", advice=f"`{update} --enable`")
    if limit.limit == 0:
        return Obstacle(found=f"{nothing} is 0", advice=f"`{update} --limit 1`")
    if limit.active_slots < limit.limit or _holders(client, deployment):
        return None
    found = f"{nothing} counts {limit.active_slots} of {limit.limit} though none runs: a slot was never given back"
    return Obstacle(found=found, advice=f"`{update} --active-slots 0`")


def _full_deployment(client: SyncPrefectClient, deployment: DeploymentResponse, *, limit: int, cancel: str) -> Obstacle:
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy

    named = ", ".join(short_id(one.id) for one in _holders(client, deployment))
    found = f"its deployment {deployment.name} executes {limit} at once, by its own limit: {named}"
    options = deployment.concurrency_options
    if options is not None and options.collision_strategy is ConcurrencyLimitStrategy.CANCEL_NEW:
        return Obstacle(found=found, advice=f"Prefect cancels what comes meanwhile, and so this run; {cancel} at once")
    return Obstacle(found=found, advice="wait until one of them is over; every half a minute it is tried again")


def _holders(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[FlowRun]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    return client.read_flow_runs(deployment_filter=of_it, flow_run_filter=_in_a_slot(), limit=NAMED)


def _taken(client: SyncPrefectClient, queues: Collection[UUID]) -> int:
    from prefect.client.schemas.filters import WorkQueueFilter, WorkQueueFilterId

    wanted = WorkQueueFilter(id=WorkQueueFilterId(any_=list(queues)))
    return client.count_flow_runs(flow_run_filter=_in_a_slot(), work_queue_filter=wanted)


def _in_a_slot() -> FlowRunFilter:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    types = [StateType(name) for name in IN_A_SLOT]
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
