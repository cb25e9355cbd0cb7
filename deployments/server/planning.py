"""Whoever changes a deployment in Prefect's server has its runs planned in the same transaction: no due time is lost.

By itself Prefect deletes the planned runs of what is changed, by a deploy, in the UI or by command, and plans new ones
up to a minute later, from then on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.server.database import orm_models
from prefect.server.models import deployments
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.server.schemas.states import StateType
from sqlalchemy import delete, event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_object_session
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from opsdb.states import AWAITS_SLOT

WANTED = "ops_planning"
"""The key in a session's `info` of what is to be planned before it commits."""


@dataclass
class Wanted:
    """What is to be planned in a session."""

    session: AsyncSession
    since: dict[UUID, datetime] = field(default_factory=dict)
    """From when on, for each deployment."""


def install() -> None:
    """Have the Prefect of this process plan at once; at most once."""
    theirs: Any = deployments._delete_scheduled_runs  # all that changes a deployment ends there
    if hasattr(theirs, "plans_again"):
        return
    create: Any = deployments.create_deployment_schedules

    @functools.wraps(theirs)
    async def delete_and_plan(*, session: AsyncSession, deployment_id: UUID, **more: Any) -> None:
        if more.get("auto_scheduled_only") and not more.get("future_only"):
            deployment = await session.get(orm_models.Deployment, deployment_id)
            if deployment is not None and not deployment.paused:
                await _delete_of_gone_schedules(session, deployment_id)
                return
        since = datetime.now(UTC)
        await theirs(session=session, deployment_id=deployment_id, **more)
        _want(session, deployment_id, since)

    @functools.wraps(create)
    async def create_and_plan(*, session: AsyncSession, deployment_id: UUID, **more: Any) -> Any:
        _want(session, deployment_id, datetime.now(UTC))
        return await create(session=session, deployment_id=deployment_id, **more)

    delete_and_plan.plans_again = True  # type: ignore[attr-defined]
    deployments._delete_scheduled_runs = delete_and_plan  # as above
    deployments.create_deployment_schedules = create_and_plan
    event.listen(orm_models.Deployment.paused, "set", _plan_when_resumed)
    event.listen(Session, "before_commit", _plan_before_commit)
    _pass_over_what_never_fires()


def _pass_over_what_never_fires() -> None:
    """Have what cannot be evaluated plan nothing: by itself Prefect plans none of the schedules beside it, either.

    `plan_watch` pauses it within a minute, and says so.
    """
    for kind in (IntervalSchedule, CronSchedule, RRuleSchedule):
        kind._get_dates_generator = _without_errors(kind._get_dates_generator)  # type: ignore[method-assign]


def _without_errors(theirs: Any) -> Any:
    @functools.wraps(theirs)
    def dates(*args: Any, **more: Any) -> Iterator[datetime]:
        with suppress(Exception):  # whatever it is
            yield from theirs(*args, **more)

    return dates


def _plan_when_resumed(deployment: orm_models.Deployment, paused: bool, _before: object, _event: object) -> None:
    session = async_object_session(deployment)
    if session is not None and not paused:
        _want(session, deployment.id, datetime.now(UTC))


async def _delete_of_gone_schedules(session: AsyncSession, deployment_id: UUID) -> None:
    """Delete the waiting runs of schedules that were deleted. Prefect by itself deletes those of the others as well."""
    run, schedule = orm_models.FlowRun, orm_models.DeploymentSchedule
    there = await session.scalars(select(schedule.id).where(schedule.deployment_id == deployment_id))
    waits = run.state_type == StateType.SCHEDULED, run.state_name != AWAITS_SLOT, run.run_count == 0
    # as Prefect's own key of a planned run has it
    gone = [run.idempotency_key.notlike(f"scheduled {deployment_id} {one} %") for one in there]
    await session.execute(
        delete(run).where(run.deployment_id == deployment_id, run.auto_scheduled.is_(True), *waits, *gone)
    )


def _want(session: AsyncSession, deployment_id: UUID, since: datetime) -> None:
    wanted: Wanted = session.info.setdefault(WANTED, Wanted(session))
    wanted.since[deployment_id] = min(since, wanted.since.get(deployment_id, since))


def _plan_before_commit(session: Session) -> None:
    """Called by SQLAlchemy, for savepoints as well: what changes after one counts, too."""
    if session.in_nested_transaction():
        return
    wanted: Wanted | None = session.info.pop(WANTED, None)
    if wanted is not None:
        await_only(_plan(wanted))


async def _plan(wanted: Wanted) -> None:
    session, schedule = wanted.session, orm_models.DeploymentSchedule
    plan: Any = deployments.schedule_runs  # whose types its decorator loses
    for deployment_id, since in wanted.since.items():
        # as they are now, and not as this session read them before the change
        deployment = await session.get(orm_models.Deployment, deployment_id, populate_existing=True)
        if deployment is None or deployment.paused:
            continue
        of_it = select(schedule).where(schedule.deployment_id == deployment_id)
        await session.execute(of_it.execution_options(populate_existing=True))
        # what is planned already stays as it is: Prefect plans each due time of a schedule once
        await plan(session=session, deployment_id=deployment_id, start_time=since)
