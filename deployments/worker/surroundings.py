"""What a worker must know of Prefect beside a run itself. Read once for many runs."""

from __future__ import annotations

import time
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from deployments.worker.prefect_inner import Related

DEPLOYMENT_SECONDS = 5.0
"""For how long a deployment that was read is taken as it stood: a burst of runs asks for it once."""


class Surroundings:
    """The flow, the deployment, the queue and the pool of a run. All methods raise httpx.HTTPError."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._kinds: dict[UUID, str] = {}
        self._deployments: dict[UUID, tuple[float, DeploymentResponse]] = {}

    async def kind(self, flow_run: FlowRun) -> str:
        """The name of its flow."""
        if flow_run.flow_id not in self._kinds:
            self._kinds[flow_run.flow_id] = (await self._client.read_flow(flow_run.flow_id)).name
        return self._kinds[flow_run.flow_id]

    async def deployment(self, flow_run: FlowRun) -> DeploymentResponse | None:
        """Its deployment; None when it has none, or has it no longer."""
        if flow_run.deployment_id is None:
            return None
        read_at, deployment = self._deployments.get(flow_run.deployment_id, (0.0, None))
        if deployment is None or time.monotonic() - read_at > DEPLOYMENT_SECONDS:
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
