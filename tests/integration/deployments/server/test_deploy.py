"""What `ops deploy` writes to a real Prefect server: what differs, and nothing else."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import load_flow_from_entrypoint

from deployments.server.declared import load_deployments
from deployments.server.deploy import apply_deployments, deploy_everything
from opsdb.errors import OpsError
from opsdb.settings import Settings
from tests.support.waiting import wait_for

KIND = "flows.stored_command.stored_command"


class File:
    """A prefect.yaml with one runbook in lane A, applied to the server."""

    def __init__(self, path: Path, client: SyncPrefectClient) -> None:
        self.path = path
        self._client = client
        self.entry: dict[str, Any] = {
            "name": f"test-{uuid4()}",
            "entrypoint": KIND,
            "tags": ["runbook"],
            "work_pool": {"name": "lane-a", "work_queue_name": "default"},
            "schedules": [{"slug": "yearly", "cron": "0 2 1 1 *", "timezone": "UTC"}],
        }

    def apply(self, **fields: Any) -> bool:
        """Whether anything was written."""
        self.entry |= fields
        self.path.write_text(yaml.safe_dump({"deployments": [self.entry]}))
        written = apply_deployments(self._client, load_deployments(self.path, []))
        assert written in ([], [f"stored_command/{self.entry['name']}"])
        return bool(written)

    def without(self, field: str) -> bool:
        """Apply it without a field."""
        del self.entry[field]
        return self.apply()

    def read(self) -> DeploymentResponse:
        return self._client.read_deployment_by_name(f"stored_command/{self.entry['name']}")

    def planned(self) -> set[UUID]:
        """The runs that Prefect has planned."""
        own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[self.read().id]))
        return {run.id for run in self._client.read_flow_runs(flow_run_filter=own)}


@pytest.fixture(scope="module", autouse=True)
def _loads_a_flow() -> None:
    load_flow_from_entrypoint(KIND)  # which sets up Prefect's loggers, the first time in a process


@pytest.fixture
def file(tmp_path: Path, client: SyncPrefectClient) -> File:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    return File(tmp_path / "prefect.yaml", client)


def test_planned_runs_outlive_a_deploy_that_changes_nothing(file: File) -> None:
    assert file.apply()
    planned = wait_for(file.planned, seconds=90, what="Prefect plans runs")
    assert not file.apply()
    assert file.planned() == planned


@pytest.mark.parametrize(
    "change",
    [
        {"description": "Another one."},
        {"parameters": {"command": "x"}},
        {"tags": ["runbook", "more"]},
        {"work_pool": {"name": "lane-a", "work_queue_name": "high"}},
        {"enforce_parameter_schema": False},
        {"version": "2"},
        {"concurrency_limit": 2},
        {"schedules": [{"slug": "yearly", "cron": "0 3 1 1 *", "timezone": "UTC"}]},
        {"schedules": [{"slug": "yearly", "cron": "0 2 1 1 *", "timezone": "Asia/Manila"}]},
        {"schedules": [{"slug": "hourly", "interval": 3600}]},
        {"schedules": [{"slug": "weekly", "rrule": "FREQ=WEEKLY;BYDAY=SU"}]},
        {"schedules": [{"slug": "yearly", "cron": "0 2 1 1 *", "parameters": {"since": date(2026, 1, 1)}}]},
    ],
    ids=str,
)
def test_what_changed_in_the_file_is_written_once(file: File, change: dict[str, Any]) -> None:
    file.apply()
    assert file.apply(**change)
    after = file.read()
    for field, value in change.items():
        if field == "concurrency_limit":
            assert after.global_concurrency_limit is not None
            assert after.global_concurrency_limit.limit == value
        elif field == "work_pool":
            assert after.work_queue_name == "high"
        elif field != "schedules":
            assert getattr(after, field) == value
    assert not file.apply()


def test_what_the_file_no_longer_says_goes(file: File) -> None:
    file.apply(concurrency_limit=2, schedules=[{"slug": "s", "cron": "0 2 1 1 *", "timezone": "Asia/Manila"}])
    assert file.without("concurrency_limit")
    assert file.read().global_concurrency_limit is None
    assert file.apply(schedules=[{"slug": "s", "cron": "0 2 1 1 *"}])
    (schedule,) = file.read().schedules
    assert schedule.schedule.model_dump()["timezone"] in (None, "UTC")
    assert not file.apply()


def test_deployment_that_lost_its_tag_gets_it_back_and_keeps_its_pause(file: File, client: SyncPrefectClient) -> None:
    file.apply()
    before = file.read()
    client.update_deployment_schedule(before.id, before.schedules[0].id, active=False)
    client.update_deployment(before.id, DeploymentUpdate(tags=[]))
    assert file.apply()
    assert file.read().tags == ["runbook"]
    assert not file.read().schedules[0].active


def test_what_was_changed_in_the_ui_is_as_the_file_says_again(file: File, client: SyncPrefectClient) -> None:
    file.apply()
    client.update_deployment(file.read().id, DeploymentUpdate(description="by hand", entrypoint="x.y"))
    assert file.apply()
    assert file.read().entrypoint == KIND
    assert not file.apply()


def test_pause_and_parameters_of_a_schedule_stay_whatever_is_written(file: File, client: SyncPrefectClient) -> None:
    file.apply()
    before = file.read()
    client.update_deployment_schedule(before.id, before.schedules[0].id, active=False, parameters={"command": "y"})
    noon = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 12 * * *"), active=True)  # as the UI does: no slug
    client.create_deployment_schedules(before.id, [noon])
    assert not file.apply()
    file.apply(description="Another.", schedules=[{"slug": "yearly", "cron": "5 2 1 1 *", "timezone": "UTC"}])
    added, yearly = sorted(file.read().schedules, key=lambda schedule: schedule.slug or "")
    assert (yearly.active, yearly.parameters) == (False, {"command": "y"})
    assert yearly.schedule.model_dump()["cron"] == "5 2 1 1 *"
    assert (added.slug, added.active) == (None, True)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"job_variables": {"env": {"A": "b"}}}, "job_variables"),
        ({"pull": [{"git": "x"}]}, "pull"),
        ({"work_pool": {"name": "lane-a"}}, "work_pool.work_queue_name"),
        ({"work_pool": {"name": "lane-e", "work_queue_name": "high"}}, "'lane-e' is no lane"),
        ({"work_pool": {"name": "lane-a", "work_queue_name": "hihg"}}, "work_pool.work_queue_name"),
        ({"tags": ["other"]}, "tags"),
        ({"name": "a/b"}, "name"),
        ({"parameters": {"command": "{{ $COMMAND }}"}}, "placeholder"),
        ({"schedules": [{"slug": "x", "cron": "0 2 * * *"}] * 2}, "the slug x stands there twice"),
        ({"schedules": [{"slug": "x", "cron": "0 2 * * *", "interval": 5}]}, "one of cron, interval and rrule"),
        ({"entrypoint": None}, "entrypoint"),
        ({"concurrency_limit": 0}, "concurrency_limit"),
        ({"schedules": [{"slug": "x", "cron": "every night"}]}, "cron"),
        ({"schedules": [{"cron": "0 2 * * *"}]}, "slug"),
        ({"entrypoint": "flows.stored_command.missing"}, "flows.stored_command.missing"),
        ({"entrypoint": "no.such.module"}, "no.such.module"),
    ],
    ids=str,
)
def test_wrong_entry_is_named_with_its_field_and_nothing_is_written(
    file: File, prefect_room: Settings, wrong: dict[str, Any], named: str
) -> None:
    entries = [file.entry, file.entry | {"name": "other"} | wrong]
    file.path.write_text(yaml.safe_dump({"deployments": entries}))
    settings = prefect_room.model_copy(update={"prefect_yaml": file.path})
    with pytest.raises(OpsError, match=re.escape(named)):
        deploy_everything(settings, templates=[], all_read=True, say=print)
    with pytest.raises(ObjectNotFound):
        file.read()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("deployments: [", "could not be applied"),
        ("{}", "deployments"),
        ("deployments: []\npull: [{git: x}]", "pull"),
        ("deployments: [1]", "deployments[0]"),
    ],
)
def test_file_that_is_none_is_named(file: File, content: str, named: str) -> None:
    file.path.write_text(content)
    with pytest.raises(OpsError, match=re.escape(named)):
        load_deployments(file.path, [])


def test_same_deployment_twice_is_refused(file: File) -> None:
    file.path.write_text(yaml.safe_dump({"deployments": [file.entry, file.entry | {"tags": ["runbook", "x"]}]}))
    with pytest.raises(OpsError, match="stands there twice"):
        load_deployments(file.path, [])


def test_runbook_may_lie_beside_the_file(file: File) -> None:
    (file.path.parent / "beside_the_file.py").write_text("from prefect import flow\n@flow\ndef mine(): ...\n")
    file.path.write_text(yaml.safe_dump({"deployments": [file.entry | {"entrypoint": "beside_the_file.mine"}]}))
    (loaded,) = load_deployments(file.path, [])
    assert loaded.flow.name == "mine"
