"""What a lane executes: the runbooks of prefect.yaml and of templates, and nothing that a run brings along."""

from __future__ import annotations

from collections.abc import Collection

from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse

from opsdb.kinds.kinds import is_of_template


def refusal(  # noqa: PLR0911  # one return for each reason reads best
    flow_run: FlowRun, deployment: DeploymentResponse | None, *, entrypoints: Collection[str]
) -> str | None:
    """Why a lane does not execute the run, or None. Whoever reaches Prefect's API can make runs and deployments.

    The files of templates are left to the run's own process: one that is just being saved is no reason to refuse.
    """
    if flow_run.job_variables:
        return f"a lane takes no job variables, this run carries {sorted(flow_run.job_variables)}"
    if flow_run.deployment_id is None:
        return "a lane executes deployments only, this run has none"
    if deployment is None:
        return f"the deployment {flow_run.deployment_id} no longer exists"
    if deployment.entrypoint not in entrypoints and not is_of_template(deployment.entrypoint or ""):
        return f"the entrypoint {deployment.entrypoint!r} is none of those in prefect.yaml, nor of a template"
    if deployment.pull_steps or deployment.job_variables:
        return f"the deployment {deployment.name} carries pull steps or job variables; run `ops deploy` again"
    known = (deployment.parameter_openapi_schema or {}).get("properties") or {}
    if unknown := sorted(set(flow_run.parameters) - set(known)):
        # Prefect's form schema admits parameters that it does not name, and its engine would die of them: a crash
        return f"unknown parameters: {', '.join(unknown)}; this runbook takes {', '.join(sorted(known)) or 'none'}"
    return None
