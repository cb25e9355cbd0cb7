"""Due times that Prefect never planned, because the whole room was down longer than it plans ahead.

Prefect plans from the moment on at which it plans. What was due before, and after the last run that it had planned, has
no run. Here it gets one, so that the catch-up rule of its schedule decides about it as about any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.schedules.catch_up import GRACE, Mode
from opsdb.schedules.impossible import ImpossibleScheduleError
from opsdb.schedules.rules import ScheduleRules
from opsdb.schedules.store import read_rules
from opsdb.schedules.times import Schedule, latest_due_times
from opsdb.tables import SyncMark
from opsdb.watch import Mark

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
MOST = 100
"""How many missed due times of a schedule are planned, the newest ones."""
PAGE = 200


async def plan_missed(engine: Engine) -> int:
    """Plan what was due while the room was down, and note up to when that is done. Returns for how many deployments.

    Prefect is asked only after an absence. Raises httpx.HTTPError, RuntimeError when Prefect's client cannot connect,
    and DBAPIError; what was planned then is not planned twice the next time.
    """
    since, now, rules = await asyncio.to_thread(_read, engine)
    planned = 0
    if since is not None and now - since > GRACE:
        async with get_client() as client:
            async for deployment in _deployments(client):
                begin = _begin_of(deployment, rules, since=since, now=now)
                if begin is not None:
                    await _plan(client, deployment.id, begin, now)
                    planned += 1
    await asyncio.to_thread(_note, engine, now)
    return planned


def first_wanted(
    schedule: Schedule, rules: ScheduleRules, *, since: datetime, now: datetime
) -> tuple[datetime | None, bool]:
    """From which due time on a schedule has to be planned after an absence, None for none, and whether that is all.

    Of `once` the newest is enough, also one that is too old to be executed: its failure is what is reported. Of
    `all` it is the newest `MOST`.
    """
    rule = rules.catch_up
    if rule.mode is Mode.SKIP:
        return None, True
    if rule.mode is Mode.ONCE:
        found = latest_due_times(schedule, start=since, end=now, count=1)
        return (found[0] if found else None), True
    found = latest_due_times(schedule, start=since, end=now, count=MOST + 1)
    return (found[-MOST:][0] if found else None), len(found) <= MOST


async def _plan(client: PrefectClient, deployment_id: UUID, begin: datetime, now: datetime) -> None:
    json = {
        "start_time": begin.isoformat(),
        "end_time": now.isoformat(),
        "min_time": (now - begin).total_seconds() + 1,
        "max_runs": MOST,
    }
    await client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment_id}, json=json)


def _begin_of(
    deployment: DeploymentResponse, rules: Mapping[UUID, ScheduleRules], *, since: datetime, now: datetime
) -> datetime | None:
    """From when on a deployment has to be planned, for all of its schedules; None where there is no need."""
    if deployment.paused:
        return None
    found = []
    for one in deployment.schedules:
        if one.active and isinstance(one.schedule, Schedule):
            begin = _begin(deployment, one, rules.get(one.id, ScheduleRules()), since=since, now=now)
            found += [begin] if begin else []
    return min(found) if found else None


def _begin(
    deployment: DeploymentResponse, one: DeploymentSchedule, rules: ScheduleRules, *, since: datetime, now: datetime
) -> datetime | None:
    changed_at = one.updated or one.created or now  # what it says now is nothing that it wanted before
    try:
        begin, whole = first_wanted(one.schedule, rules, since=max(since, changed_at), now=now)  # type: ignore[arg-type]  # looked at
    except ImpossibleScheduleError:
        return None
    if not whole:
        log.warning(
            "schedule %s of %s: more than %d due times since %s were missed; those before %s are not executed",
            one.slug or one.id,
            deployment.name,
            MOST,
            f"{since:%Y-%m-%d %H:%M} UTC",
            begin,
        )
    return begin


async def _deployments(client: PrefectClient) -> AsyncIterator[DeploymentResponse]:
    offset = 0
    while True:
        page = await client.read_deployments(
            deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[RUNBOOK_TAG])), limit=PAGE, offset=offset
        )
        for deployment in page:
            yield deployment
        if len(page) < PAGE:
            return
        offset += PAGE


def _read(engine: Engine) -> tuple[datetime | None, datetime, dict[UUID, ScheduleRules]]:
    """Up to when missed due times are planned, None in a new room; now, by the database's clock; and the rules."""
    with engine.connect() as db:
        since = db.scalar(select(col(SyncMark.at)).where(col(SyncMark.name) == Mark.PLANNED))
        now = db.execute(select(func.clock_timestamp())).scalar_one()
        return since, now, {one: known.effective for one, known in read_rules(db).items()}


def _note(engine: Engine, now: datetime) -> None:
    made = insert(SyncMark).values(name=Mark.PLANNED, at=now)
    latest = {"at": func.greatest(col(SyncMark.at), made.excluded.at), "updated_at": func.clock_timestamp()}
    with engine.begin() as db:
        db.execute(made.on_conflict_do_update(index_elements=[col(SyncMark.name)], set_=latest))
