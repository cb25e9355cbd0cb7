"""The schedules of runbooks at the room's Prefect server: found by the names that people give, read, and changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from deployments.server.client import PAGE, runbook_deployments
from deployments.server.declared import DeclaredDeployment, DeclaredSchedule
from deployments.server.when import is_when
from opsdb.database import writing
from opsdb.errors import UsageError
from opsdb.kinds.names import former_full_name
from opsdb.near_names import did_you_mean
from opsdb.runs.prefect_runs import LANE_OF_POOL
from opsdb.schedules.store import KnownRules, Said, write_declared
from opsdb.schedules.times import Schedule, when, zone_of
from opsdb.settings import Settings
from opsdb.tables import Lane


@dataclass(frozen=True, kw_only=True)
class RunbookSchedule:
    """One schedule of a runbook's deployment. `name` is what people call it; `aliases` find it, too."""

    name: str
    aliases: tuple[str, ...]
    kind: str
    deployment: DeploymentResponse
    entry: DeploymentSchedule

    @property
    def id(self) -> UUID:
        """Prefect's id of the schedule."""
        return self.entry.id

    @property
    def schedule(self) -> Schedule:
        """When it is due."""
        assert isinstance(self.entry.schedule, Schedule)  # noqa: S101  # `read_schedules` leaves out others
        return self.entry.schedule

    @property
    def lane(self) -> Lane:
        """Where its runs are executed."""
        return LANE_OF_POOL.get(self.deployment.work_pool_name or "", Lane.A)

    @property
    def full_name(self) -> str:
        """The deployment, as Prefect names it."""
        return f"{self.kind}/{self.deployment.name}"

    @property
    def parameters(self) -> dict[str, Any]:
        """What its runs are started with: those of the deployment, and its own."""
        return {**(self.deployment.parameters or {}), **self.entry.parameters}

    @property
    def runs(self) -> bool:
        """Whether Prefect plans runs of it."""
        return self.entry.active and not self.deployment.paused

    @property
    def state(self) -> str:
        """Active, or what is paused."""
        if self.deployment.paused:
            return "deployment paused"
        return "active" if self.entry.active else "paused"


def read_schedules(client: SyncPrefectClient) -> list[RunbookSchedule]:
    """All schedules of runbooks, by name."""
    found = [(kind, one) for kind, one in runbook_deployments(client) if one.work_pool_name in LANE_OF_POOL]
    with_some = [(kind, one) for kind, one in found if _entries(one)]
    times = Counter(one.name for _, one in with_some)
    schedules = []
    for kind, deployment in with_some:
        full = f"{kind}/{deployment.name}"
        short = full if times[deployment.name] > 1 else deployment.name
        entries, former = _entries(deployment), former_full_name(kind, deployment.name)
        for entry in entries:
            slug = entry.slug or entry.id.hex[-8:]
            name = short if len(entries) == 1 else f"{short}/{slug}"
            spellings = list(filter(None, [short, full, former]))
            aliases = ({f"{one}/{slug}" for one in spellings} | set(spellings if len(entries) == 1 else [])) - {name}
            schedules.append(
                RunbookSchedule(
                    name=name, aliases=tuple(sorted(aliases)), kind=kind, deployment=deployment, entry=entry
                )
            )
    return sorted(schedules, key=lambda one: one.name)


def find_schedule(schedules: Sequence[RunbookSchedule], name: str) -> RunbookSchedule:
    """The schedule of that name. Raises UsageError that names the ones there are."""
    for one in schedules:
        if name == one.name or name in one.aliases:
            return one
    if not schedules:
        raise UsageError(f"NAME: no schedule {name!r}: no runbook has one. `ops deploy` deploys those of prefect.yaml")
    several = [one.name for one in schedules if one.name.startswith(f"{name}/")]
    if several:
        raise UsageError(f"NAME: {name!r} has several schedules (choose from {', '.join(several)})")
    meant = did_you_mean(name, [one.name for one in schedules], alike=0.4)
    raise UsageError(f"NAME: no schedule {name!r}.{meant} There are: {', '.join(one.name for one in schedules)}")


def change_schedule(
    client: SyncPrefectClient,
    one: RunbookSchedule,
    *,
    schedule: Schedule | None = None,
    parameters: Mapping[str, Any] | None = None,
    active: bool | None = None,
) -> None:
    """Write what is given of a schedule, as the Prefect UI does."""
    client.update_deployment_schedule(
        one.deployment.id,
        one.id,
        # all of it: the client takes what is left out for empty
        active=one.entry.active if active is None else active,
        schedule=schedule or one.schedule,
        parameters=dict(one.entry.parameters if parameters is None else parameters),
    )


def last_ticks(
    client: SyncPrefectClient, schedules: Iterable[RunbookSchedule], *, before: datetime
) -> dict[UUID, FlowRun]:
    """The newest run that each schedule has wanted by then, by the schedule's id. One of long ago may be missing."""
    found: dict[UUID, FlowRun] = {}
    for deployment_id in {one.deployment.id for one in schedules}:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=before),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=PAGE,
        )
        for run in runs:
            if run.auto_scheduled and run.created_by is not None and run.created_by.id is not None:
                found.setdefault(run.created_by.id, run)
    return found


def declared_of(one: RunbookSchedule, declared: Iterable[DeclaredDeployment]) -> tuple[DeclaredSchedule | None, Said]:
    """What prefect.yaml, or a template, asks for; None for a schedule that was made in the UI or by command."""
    for deployment in declared:
        if deployment.full_name == one.full_name:
            for schedule in deployment.schedules:
                if schedule.slug == one.entry.slug:
                    rules = deployment.schedule_rules.get(schedule.slug)
                    return schedule, rules.said if rules else Said()
    return None, Said()


def differences(one: RunbookSchedule, declared: DeclaredSchedule, known: KnownRules) -> list[str]:
    """What a person set otherwise than it is declared, in words."""
    found = []
    if not is_when(one.schedule, declared.when):
        found.append(f"declared {when_and_where(declared.schedule)}")
    if one.entry.active != declared.active:
        found.append("declared active" if declared.active else "declared paused")
    if one.entry.parameters != declared.parameters:
        names = sorted(
            name
            for name in {*one.entry.parameters, *declared.parameters}
            if one.entry.parameters.get(name) != declared.parameters.get(name)
        )
        found.append(f"other parameters declared: {', '.join(names)}")
    rules = KnownRules(declared=known.declared).effective
    if known.effective.catch_up != rules.catch_up:
        found.append(f"declared catch-up {rules.catch_up}")
    if known.effective.blackouts != rules.blackouts:
        found.append(f"declared blackouts: {', '.join(map(str, rules.blackouts)) or 'none'}")
    return found


def when_and_where(schedule: Schedule) -> str:
    """When a schedule is due, and by the clocks of which zone."""
    return f"{when(schedule)} {zone_of(schedule).key}"


def apply_declared_rules(client: SyncPrefectClient, settings: Settings, declared: Sequence[DeclaredDeployment]) -> None:
    """Note the rules that are declared of schedules, and forget those of schedules that are gone.

    Raises RoomUnreachableError when the ops database does not answer, and httpx.HTTPError.
    """
    schedules = read_schedules(client)
    said = {one.id: declared_of(one, declared)[1] for one in schedules}
    with writing(settings, application="deploy") as db:
        write_declared(
            db, {one: rules for one, rules in said.items() if rules != Said()}, existing=[one.id for one in schedules]
        )


def _entries(deployment: DeploymentResponse) -> list[DeploymentSchedule]:
    return [entry for entry in deployment.schedules if isinstance(entry.schedule, Schedule)]
