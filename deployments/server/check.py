"""Whether Prefect has what the room needs of it: version, lanes with their queues, deployments, planned runs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import requires, version
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse

from blocks.check import Check
from deployments.server.access import prefect_command
from deployments.server.client import answering, pages, prefect_client, runbook_deployments
from deployments.server.declared import QUEUES, FileDeployment, deployments_of
from deployments.server.obstacles import TAKE_OVER, clear_queue, closed_lane, closed_queue, read_copy_of
from deployments.server.schedule_check import check_schedules
from opsdb.kinds.kinds import Deployed, is_of_file, named, registered_deployments, switched_off
from opsdb.places import FOLDER_PARAMETERS
from opsdb.runs.lookup import short_id
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.settings import Settings
from opsdb.tables import Lane

REQUEST_SECONDS = 3.0
MOST_WAITING = 1000
"""Waiting runs that are looked at."""
DEPLOY = "run `ops deploy`"


def check_prefect(settings: Settings, *, files: Collection[FileDeployment], all_read: bool) -> Iterator[Check]:
    """Look at the room's Prefect server. Raises RoomUnreachableError when it does not answer or lets nobody in.

    Unless `all_read`, a file that is no longer right keeps its deployments, as `ops deploy` leaves them.
    """
    with prefect_client(settings, request_seconds=REQUEST_SECONDS) as client, answering(client):
        yield judge_version(client.api_version(), version("prefect"), pinned_version())
        pools = {pool.name: pool for pool in client.read_work_pools()}
        copy_of = read_copy_of(client)
        if copy_of:
            yield Check(
                "room", f"it is a copy of {copy_of}: its lanes are paused, so that it executes nothing", TAKE_OVER
            )
        for lane in Lane:
            pool = pools.get(lane.pool)
            if copy_of and pool is not None and pool.is_paused:
                continue
            queues = client.read_work_queues(work_pool_name=lane.pool) if pool else []
            yield judge_lane(lane, pool, queues, limit=settings.lane_limit)
        off = switched_off(settings)
        registered = registered_deployments(settings.prefect_yaml)
        wanted = {name: one for name, one in registered.items() if one.entrypoint not in off}
        wanted |= named(one for file in files for one in deployments_of(file))
        found = {f"{kind}/{one.name}": one for kind, one in runbook_deployments(client)}
        yield judge_deployments(wanted, {name: _as_deployed(one) for name, one in found.items()}, all_read=all_read)
        for name, one in found.items():
            yield from judge_folders(name, one, settings)
            yield from check_schedules(client, name, one)
            yield from filter(None, [judge_pool(name, one)])
        yield from filter(None, [judge_waiting(list(itertools.islice(_waiting(client), MOST_WAITING)))])


def pinned_version() -> str:
    """The only version of Prefect that this installation was made for."""
    pins = (line.partition(";")[0].replace(" ", "") for line in requires("ops-control-room") or [])
    return next((pin.removeprefix("prefect==") for pin in pins if pin.startswith("prefect==")), "")


def judge_version(server: str, installed: str, pinned: str) -> Check:
    """Whether server and client are the version that the lane worker was written for."""
    if installed != pinned:
        advice = f"the worker uses inner names of Prefect {pinned}: install it with `make install`"
        return Check("version", f"Prefect {installed} is installed here", advice)
    if server != installed:
        advice = "restart the room, so that its server is what is installed: `ops down`, `ops up`"
        return Check("version", f"the server is Prefect {server}, {installed} is installed here", advice)
    return Check("version", f"Prefect {server}, as pinned")


def judge_lane(lane: Lane, pool: WorkPool | None, queues: list[WorkQueue], *, limit: int) -> Check:
    """Whether a lane is there, with its queues in order, and takes runs."""
    subject = f"lane {lane}"
    if closed := closed_lane(lane, pool, slots=limit):
        return Check(subject, closed.found.removeprefix(f"{subject} "), closed.advice)
    assert pool is not None  # noqa: S101  # such a lane is closed
    priorities = {queue.name: queue.priority for queue in queues}
    if [priorities.get(name) for name in QUEUES] != list(range(1, len(QUEUES) + 1)):
        return Check(subject, "its queues are not those of a lane, or not in order", DEPLOY)
    if shut := list(filter(None, (closed_queue(lane, queue) for queue in queues))):
        return Check(subject, "; ".join(one.found for one in shut), "; ".join(one.advice for one in shut))
    if limited := [queue for queue in queues if queue.concurrency_limit is not None]:
        found = ", ".join(f"queue {one.name} executes {one.concurrency_limit} at once" for one in limited)
        return Check(subject, f"limited in Prefect: {found}", "; ".join(clear_queue(lane, one.name) for one in limited))
    if pool.concurrency_limit != limit:
        found = f"executes {pool.concurrency_limit or 'any number of'} runs at once, OPS_LANE_LIMIT here says {limit}"
        command = prefect_command(f"work-pool set-concurrency-limit {pool.name} {limit}")
        return Check(subject, found, f"{DEPLOY} with the OPS_LANE_LIMIT that is right, or `{command}`")
    return Check(subject, f"{limit} runs at once, queues in order")


def judge_deployments(wanted: Mapping[str, Deployed], found: Mapping[str, Deployed], *, all_read: bool) -> Check:
    """Whether Prefect has the deployments as prefect.yaml and other files say, and no other ones of runbooks."""
    missing = sorted(wanted.keys() - found.keys())
    changed = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    others = found.keys() - wanted.keys()
    foreign = sorted(name for name in others if all_read or not is_of_file(found[name].entrypoint))
    if missing or changed:
        parts = [("missing", missing), ("other than here", changed)]
        return Check("deployments", "; ".join(f"{word}: {_some(names)}" for word, names in parts if names), DEPLOY)
    if foreign:
        advice = (
            "`ops deploy` removes what belongs to no file any more, or is switched off; delete others in the Prefect UI"
        )
        return Check("deployments", f"neither in prefect.yaml nor of a file: {_some(foreign)}", advice)
    return Check("deployments", f"{len(wanted)}, as in prefect.yaml and other files")


def judge_pool(name: str, deployment: DeploymentResponse) -> Check | None:
    """That the runs of a deployment go where no worker of the room asks."""
    if deployment.work_pool_name in [lane.pool for lane in Lane]:
        return None
    where = f"the work pool {deployment.work_pool_name}" if deployment.work_pool_name else "no work pool"
    return Check(name, f"its runs go to {where}, which is not a lane: no worker of the room takes them", DEPLOY)


def judge_waiting(runs: Collection[FlowRun]) -> Check | None:
    """Which of the runs that are due no worker will ever see."""
    lost = [run for run in runs if run.work_queue_id is None]
    if not lost:
        return None
    names = _some([f"{short_id(run.id)} in {run.work_queue_name or 'no queue'}" for run in lost])
    are = "1 run waits in a queue that was" if len(lost) == 1 else f"{len(lost)} runs wait in queues that were"
    return Check("waiting runs", f"{are} deleted in Prefect: {names}", f"{DEPLOY}, which puts them there again")


def check_parameters(settings: Settings) -> list[Check]:
    """What the runs of deployments would refuse of the parameters that stand there. Raises as check_prefect does."""
    with prefect_client(settings, request_seconds=REQUEST_SECONDS) as client, answering(client):
        found = [(f"{kind}/{one.name}", one) for kind, one in runbook_deployments(client)]
    return [check for name, one in found for check in judge_folders(name, one, settings)]


def judge_folders(name: str, deployment: DeploymentResponse, settings: Settings) -> Iterator[Check]:
    """Which folders of a deployment, or of its schedules, its runs would refuse."""
    for values in (deployment.parameters, *(schedule.parameters for schedule in deployment.schedules)):
        for parameter, refuse in FOLDER_PARAMETERS.items():
            folder = values.get(parameter)
            if isinstance(folder, str) and folder and (refusal := refuse(Path(folder), settings)):
                found, _, advice = refusal.partition(" Hint: ")
                yield Check(name, f"its runs will be refused for their {parameter}: {found}", advice)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _as_deployed(one: DeploymentResponse) -> Deployed:
    return Deployed(one.entrypoint or "", one.work_pool_name or "", one.work_queue_name or "")


def _waiting(client: SyncPrefectClient) -> Iterator[FlowRun]:
    """The runs of runbooks that are due and not taken."""
    due = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[RUNBOOK_TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC)),
    )
    return pages(client.read_flow_runs, flow_run_filter=due)
