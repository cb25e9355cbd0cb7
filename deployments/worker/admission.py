"""What a worker reads of a run's deployment before it starts it, and whether a lane executes it.

A lane executes the runbooks of prefect.yaml and of templates, and nothing that a run brings along.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from deployments.worker.prefect_inner import Related
from opsdb.kinds.kinds import is_of_file

DEPLOYMENT_SECONDS = 5.0
"""For how long a deployment that was read is taken as it stood: a burst of runs asks for it once."""


class Deployments:
    """The flow, deployment, queue and pool of runs, read once for many. All methods raise httpx.HTTPError."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._kinds: dict[UUID, str] = {}
        self._deployments: dict[UUID, tuple[float, DeploymentResponse]] = {}

    async def kind(self, flow_run: FlowRun) -> str:
        """The name of its flow."""
        if flow_run.flow_id not in self._kinds:
            self._kinds[flow_run.flow_id] = (await self._client.read_flow(flow_run.flow_id)).name
        return self._kinds[flow_run.flow_id]

    async def deployment(self, flow_run: FlowRun, *, fresh: bool = False) -> DeploymentResponse | None:
        """Its deployment, as it is now if `fresh`; None when it has none, or has it no longer."""
        if flow_run.deployment_id is None:
            return None
        read_at, deployment = self._deployments.get(flow_run.deployment_id, (0.0, None))
        if fresh or deployment is None or time.monotonic() - read_at > DEPLOYMENT_SECONDS:
            try:
                deployment = await self._client.read_deployment(flow_run.deployment_id)
            except ObjectNotFound:
                return None
            self._deployments[flow_run.deployment_id] = (time.monotonic(), deployment)
        return deployment

    async def related(
        self, flow_run: FlowRun, deployment: DeploymentResponse | None, *, pool: WorkPool | None
    ) -> tuple[Related, ...]:
        """What the events of the run name beside it."""
        found = [Related("flow", flow_run.flow_id, await self.kind(flow_run))]
        if deployment is not None:
            found.append(Related("deployment", deployment.id, deployment.name, tuple(deployment.tags)))
        if pool is not None:
            found.append(Related("work-pool", pool.id, pool.name))
        if flow_run.work_queue_id is not None:
            found.append(Related("work-queue", flow_run.work_queue_id, flow_run.work_queue_name or ""))
        return tuple(found)


def refusal(  # noqa: PLR0911  # one return for each reason reads best
    flow_run: FlowRun, deployment: DeploymentResponse | None, *, entrypoints: Collection[str]
) -> str | None:
    """Why a lane does not execute the run, or None. Whoever reaches Prefect's API can make runs and deployments.

    Templates and own runbooks are left to the run's process: a file that is just being saved must not refuse a run.
    """
    if flow_run.job_variables:
        return f"a lane takes no job variables, this run carries {sorted(flow_run.job_variables)}"
    if flow_run.deployment_id is None:
        return "a lane executes deployments only, this run has none"
    if deployment is None:
        return f"the deployment {flow_run.deployment_id} no longer exists"
    if deployment.entrypoint not in entrypoints and not is_of_file(deployment.entrypoint or ""):
        return f"the entrypoint {deployment.entrypoint!r} is neither in prefect.yaml nor that of a file"
    if deployment.pull_steps or deployment.job_variables:
        return f"the deployment {deployment.name} carries pull steps or job variables; run `ops deploy` again"
    known = (deployment.parameter_openapi_schema or {}).get("properties") or {}
    if unknown := sorted(set(flow_run.parameters) - set(known)):
        # Prefect's form schema admits parameters that it does not name, and its engine would die of them: a crash
        return f"unknown parameters: {', '.join(unknown)}; this runbook takes {', '.join(sorted(known)) or 'none'}"
    return None
