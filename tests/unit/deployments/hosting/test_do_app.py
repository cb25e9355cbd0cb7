"""The app of DigitalOcean's App Platform: its fields, its Dockerfile, and what its health asks for."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deployments.hosting.do_app import (
    DO_APP,
    DOCKERFILE,
    DoAppValues,
    check_dockerfile,
    check_fields,
    judge_dockerfile,
)
from deployments.hosting.template import Outcome, render
from opsdb.settings import Settings
from tests.support.documents import ROOT
from tests.support.hosting import GOOD
from tests.support.tiers import in_gate


def spec(**values: Any) -> str:
    (text,) = render(DO_APP, DoAppValues.model_validate(GOOD["do-app"][0] | values)).values()
    return text


def worker(text: str) -> dict[str, Any]:
    (found,) = yaml.safe_load(text)["workers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("values", GOOD["do-app"], ids=["usual", "some lanes"])
def test_fields_of_what_is_rendered_are_those_documented(values: dict[str, Any]) -> None:
    assert check_fields({"spec": spec(**values)}).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("line", "broken", "said"),
    [
        ("liveness_health_check:", "health_check:", "'health_check' was unexpected"),  # that of a service
        ("port: 3000", "http_port: 3000", "'http_port' was unexpected"),
        ("workers:", "services:", "'services' was unexpected"),  # which would be public
        ("instance_count: 1", "instance_count: many", "is not of type 'integer'"),
        ("timeout_seconds: 5", "timeout_seconds: 500", "greater than the maximum"),
        ("region: sgp", "region: [", "not YAML"),
    ],
)
def test_fields_that_are_not_documented_are_refused(line: str, broken: str, said: str) -> None:
    assert line in spec()
    verdict = check_fields({"spec": spec().replace(line, broken)})
    assert (verdict.outcome, said in verdict.said) == (Outcome.REFUSED, True), verdict.said


def test_health_is_asked_for_where_and_as_the_worker_answers() -> None:
    found = worker(spec(health_port=3100))
    check = found["liveness_health_check"]
    envs = {one["key"]: one["value"] for one in found["envs"]}
    assert check["http_path"] == "/health"
    assert (check["port"], envs["OPS_HEALTH_PORT"]) == (3100, "3100")
    document = {"period_seconds": 30, "timeout_seconds": 5, "success_threshold": 1, "failure_threshold": 3}
    assert {key: check[key] for key in document} == document


def test_platform_waits_for_as_long_as_runs_are_given() -> None:
    found = worker(spec(drain_seconds=300))
    assert {"key": "OPS_DRAIN_SECONDS", "scope": "RUN_TIME", "value": "300"} in found["envs"]
    assert found["termination"]["grace_period_seconds"] >= Settings(drain_seconds=300).timings.drain + 20


def test_no_secret_is_in_the_spec_and_a_push_does_not_deploy_beside_the_workflow() -> None:
    found = worker(spec())
    secrets = {one["key"]: one for one in found["envs"] if one.get("type") == "SECRET"}
    assert {key: one["value"] for key, one in secrets.items()} == {key: f"${{{key}}}" for key in secrets}
    assert secrets.keys() == {"OPS_DATABASE_URL", "ROOM_SECRETS"}
    assert found["github"]["deploy_on_push"] is False


def test_variables_are_settings_or_what_the_container_reads() -> None:
    script = (ROOT / "deployments/hosting/worker_container.sh").read_text()
    read = set(re.findall(r"\bROOM_[A-Z_]+", script))
    for one in worker(spec())["envs"]:
        key = one["key"]
        assert key in read or key.removeprefix("OPS_").lower() in Settings.model_fields, key


def test_hadolint_passes_the_dockerfile_without_a_word() -> None:
    verdict = check_dockerfile({})
    assert (verdict.outcome, verdict.said) == (Outcome.PASSED, "")


@pytest.mark.parametrize(
    ("line", "broken", "rule"),
    [
        ("FROM python:3.11-slim-bookworm", "FROM python", "DL3006"),
        *in_gate(
            [
                ("USER 10001", "USER root", "DL3002"),
                ("--no-install-recommends", "", "DL3015"),
            ]
        ),
    ],
)
def test_hadolint_refuses_a_broken_dockerfile(line: str, broken: str, rule: str) -> None:
    verdict = judge_dockerfile(DOCKERFILE.read_text().replace(line, broken))
    assert (verdict.outcome, rule in verdict.said) == (Outcome.REFUSED, True), verdict.said


def test_image_gets_what_the_room_imports_and_no_folder_with_secrets() -> None:
    """`COPY . .` would put the `.ops` of a checkout that runs a room into the image."""
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    names = {name for words in copied for name in words.split()}
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= names
    assert all((ROOT / name).exists() and not name.startswith(".") for name in names)
