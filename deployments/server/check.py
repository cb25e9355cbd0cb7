"""Whether Prefect has what the room needs of it: version, lanes with their queues, deployments, planned runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import requires, version
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from blocks.check import Check
from deployments.server.client import answering, prefect_client, runbook_deployments
from deployments.server.declared import QUEUES, TemplateDeployment, deployments_of
from opsdb.kinds.kinds import Deployed, named, registered_deployments
from opsdb.kinds.template_files import PACKAGE
from opsdb.places import FOLDER_PARAMETERS
from opsdb.settings import Settings
from opsdb.tables import Lane

REQUEST_SECONDS = 3.0
PLANNING = timedelta(minutes=3)
"""In which Prefect plans the runs of what was deployed: it looks every minute."""
DEPLOY = "run `ops deploy`"


def check_prefect(settings: Settings, *, templates: Collection[TemplateDeployment], all_read: bool) -> Iterator[Check]:
    """Look at the room's Prefect server. Raises RoomUnreachableError when it does not answer or lets nobody in.

    Unless `all_read`, a template that is no longer right keeps its deployments, as `ops deploy` leaves them.
    """
    with prefect_client(settings, request_seconds=REQUEST_SECONDS) as client, answering(client):
        yield judge_version(client.api_version(), version("prefect"), pinned_version())
        pools = {pool.name: pool for pool in client.read_work_pools()}
        for lane in Lane:
            queues = client.read_work_queues(work_pool_name=lane.pool) if lane.pool in pools else []
            yield judge_lane(lane, pools.get(lane.pool), queues, limit=settings.lane_limit)
        wanted = registered_deployments(settings.prefect_yaml)
        wanted |= named(one for template in templates for one in deployments_of(template))
        found = {f"{kind}/{one.name}": one for kind, one in runbook_deployments(client)}
        yield judge_deployments(wanted, {name: _as_deployed(one) for name, one in found.items()}, all_read=all_read)
        for name, one in found.items():
            yield from judge_folders(name, one, settings)
            if any(schedule.active for schedule in one.schedules) and not one.paused:
                yield judge_schedule(
                    name, _next_run(client, one), age=datetime.now(UTC) - (one.updated or datetime.now(UTC))
                )


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
    if pool is None:
        return Check(subject, "is not there", DEPLOY)
    if pool.is_paused:
        return Check(subject, "is paused: it starts nothing", f"resume the work pool {lane.pool} in the Prefect UI")
    priorities = {queue.name: queue.priority for queue in queues}
    if [priorities.get(name) for name in QUEUES] != list(range(1, len(QUEUES) + 1)):
        return Check(subject, "its queues are not those of a lane, or not in order", DEPLOY)
    if paused := [queue.name for queue in queues if queue.is_paused]:
        return Check(subject, f"paused queues: {', '.join(paused)}", "resume them in the Prefect UI, Work Pools")
    if pool.concurrency_limit != limit:
        found = f"executes {pool.concurrency_limit or 'any number of'} runs at once, OPS_LANE_LIMIT here says {limit}"
        return Check(subject, found, f"{DEPLOY} with the OPS_LANE_LIMIT that is right")
    return Check(subject, f"{limit} runs at once, queues in order")


def judge_deployments(wanted: Mapping[str, Deployed], found: Mapping[str, Deployed], *, all_read: bool) -> Check:
    """Whether Prefect has the deployments as prefect.yaml and the templates say, and no other ones of runbooks."""
    missing = sorted(wanted.keys() - found.keys())
    changed = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    others = found.keys() - wanted.keys()
    foreign = sorted(name for name in others if all_read or not found[name].entrypoint.startswith(f"{PACKAGE}."))
    if missing or changed:
        parts = [("missing", missing), ("other than here", changed)]
        return Check("deployments", "; ".join(f"{word}: {_some(names)}" for word, names in parts if names), DEPLOY)
    if foreign:
        advice = "`ops deploy` removes those of templates that are gone; delete others in the Prefect UI"
        return Check("deployments", f"neither in prefect.yaml nor of a template: {_some(foreign)}", advice)
    return Check("deployments", f"{len(wanted)}, as in prefect.yaml and the templates")


def judge_schedule(name: str, planned_at: datetime | None, *, age: timedelta) -> Check:
    """Whether Prefect has planned the next run of a schedule that is not paused. `age`: since it was deployed."""
    if planned_at is not None:
        return Check(name, f"next scheduled for {planned_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    if age < PLANNING:
        return Check(name, "was deployed just now: Prefect plans its runs within a minute or two")
    advice = "pause it if it is over; else log/prefect.log in OPS_HOME tells what became of schedule_deployments"
    return Check(name, "has a schedule, but Prefect planned no run of it: it will not start", advice)


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
            if isinstance(folder, str) and (refusal := refuse(Path(folder), settings)):
                found, _, advice = refusal.partition(" Hint: ")
                yield Check(name, f"its runs will be refused for their {parameter}: {found}", advice)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _as_deployed(one: DeploymentResponse) -> Deployed:
    return Deployed(one.entrypoint or "", one.work_pool_name or "", one.work_queue_name or "")


def _next_run(client: SyncPrefectClient, deployment: DeploymentResponse) -> datetime | None:
    """When the first run is due that Prefect planned for the deployment's schedules."""
    planned = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC)),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=50,
    )
    return next((run.expected_start_time for run in planned if run.auto_scheduled), None)
