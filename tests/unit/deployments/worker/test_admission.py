"""What a lane refuses to execute (case 17)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse

from deployments.worker.admission import refusal
from deployments.worker.lane_worker import BASE_JOB_TEMPLATE

OURS = "flows.backup.backup"


def make_run(**columns: Any) -> FlowRun:
    return FlowRun(**{"flow_id": uuid4(), "deployment_id": uuid4(), "name": "run", **columns})


def make_deployment(**columns: Any) -> DeploymentResponse:
    return DeploymentResponse(**{"id": uuid4(), "name": "lane-a", "flow_id": uuid4(), "entrypoint": OURS, **columns})


def test_registered_runbook_is_executed() -> None:
    assert refusal(make_run(), make_deployment(), entrypoints={OURS}) is None


def test_template_is_executed_even_when_its_file_is_just_being_saved() -> None:
    assert refusal(make_run(), make_deployment(entrypoint="flows.templates.any"), entrypoints={OURS}) is None


@pytest.mark.parametrize(
    ("run", "deployment", "why"),
    [
        ({"job_variables": {"command": "sh -c 'curl evil'"}}, {}, "job variables, this run carries ['command']"),
        ({"job_variables": {"env": {"BASH_ENV": "/tmp/x"}}}, {}, "['env']"),
        ({}, {"entrypoint": "os.system"}, "'os.system' is neither in prefect.yaml nor"),
        ({}, {"entrypoint": "/tmp/evil.py:flow"}, "is neither in prefect.yaml nor"),
        ({}, {"entrypoint": "flows.templates.a.b"}, "is neither in prefect.yaml nor"),
        ({}, {"entrypoint": "flows.templates._run"}, "is neither in prefect.yaml nor"),
        ({}, {"entrypoint": None}, "is neither in prefect.yaml nor"),
        ({}, {"pull_steps": [{"run_shell_script": {"script": "id"}}]}, "pull steps"),
        ({}, {"job_variables": {"command": "id"}}, "job variables"),
        ({}, None, "no longer exists"),
        ({"deployment_id": None}, None, "executes deployments only"),
    ],
)
def test_refused_is_whatever_a_run_or_a_deployment_brings_along(
    run: dict[str, Any], deployment: dict[str, Any] | None, why: str
) -> None:
    made = None if deployment is None else make_deployment(**deployment)
    assert why in (refusal(make_run(**run), made, entrypoints={OURS}) or "executed")


def test_refusal_of_variables_does_not_repeat_their_values() -> None:
    said = refusal(make_run(job_variables={"env": {"TOKEN": "hunter2"}}), make_deployment(), entrypoints={OURS})
    assert "hunter2" not in str(said)


def test_pools_of_the_lanes_take_no_variables() -> None:
    assert BASE_JOB_TEMPLATE["variables"]["properties"] == {}
    assert "{{" not in str(BASE_JOB_TEMPLATE)
