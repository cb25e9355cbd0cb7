"""A change of a schedule in Prefect's server changes what it names, and nothing else.

By itself Prefect takes a request without parameters for one that empties them: who pauses a schedule would lose the
databases that it names.
"""

from __future__ import annotations

import functools
from typing import Any

from prefect.server.models import deployments
from prefect.server.schemas.actions import DeploymentScheduleUpdate


def install() -> None:
    """Have the Prefect of this process leave parameters alone that a request does not name; at most once."""
    theirs: Any = deployments.update_deployment_schedule
    if hasattr(theirs, "keeps_parameters"):
        return

    @functools.wraps(theirs)
    async def update(*args: Any, schedule: DeploymentScheduleUpdate, **more: Any) -> bool:
        if "parameters" not in schedule.model_fields_set:
            schedule = schedule.model_copy(update={"parameters": None})  # what is None is not written
        return bool(await theirs(*args, schedule=schedule, **more))

    update.keeps_parameters = True  # type: ignore[attr-defined]
    deployments.update_deployment_schedule = update
