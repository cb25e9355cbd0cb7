"""Whether what Prefect has is what the room needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule

from blocks.check import Check
from deployments.server.check import (
    judge_deployments,
    judge_folders,
    judge_lane,
    judge_pool,
    judge_version,
    judge_waiting,
    pinned_version,
)
from deployments.server.declared import QUEUES, FileDeployment, deployments_of
from opsdb.kinds.kinds import Deployed, named
from opsdb.runs.lookup import short_id
from opsdb.settings import Settings
from opsdb.tables import Lane

ONE = Deployed("flows.a.a", "lane-a", "default")


@pytest.mark.parametrize(
    ("server", "installed", "ok"), [("3.9.1", "3.9.1", True), ("3.8.8", "3.9.1", False), ("3.10.0", "3.10.0", False)]
)
def test_only_the_pinned_version_is_well(server: str, installed: str, ok: bool) -> None:
    assert judge_version(server, installed, "3.9.1").ok is ok


def test_pin_is_that_of_the_project() -> None:
    assert pinned_version() == "3.9.1"


def queue(name: str, priority: int) -> WorkQueue:
    return WorkQueue(name=name, priority=priority, work_pool_id=uuid4())


def lane() -> tuple[dict[str, Any], list[WorkQueue]]:
    pool = {"name": "lane-a", "type": "lane", "concurrency_limit": 3, "is_paused": False, "default_queue_id": uuid4()}
    return pool, [queue(name, number) for number, name in enumerate(QUEUES, 1)]


BREAKS: dict[str, Callable[[dict[str, Any], list[WorkQueue]], object]] = {
    "is paused in Prefect and starts nothing": lambda pool, _: pool.update(is_paused=True),
    "executes nothing: the concurrency limit of its work pool in Prefect is 0": lambda pool, _: pool.update(
        concurrency_limit=0
    ),
    "queue high of lane A executes nothing": lambda _, queues: setattr(queues[1], "concurrency_limit", 0),
    "queue high executes 2 at once": lambda _, queues: setattr(queues[1], "concurrency_limit", 2),
    "any number of runs": lambda pool, _: pool.update(concurrency_limit=None),
    "OPS_LANE_LIMIT here says 3": lambda pool, _: pool.update(concurrency_limit=4),
    "not those of a lane": lambda _, queues: queues.pop(),
    "or not in order": lambda _, queues: setattr(queues[0], "priority", 9),
    "queue urgent of lane A is paused": lambda _, queues: setattr(queues[0], "is_paused", True),
}


def test_lane_that_is_as_deployed_is_well() -> None:
    pool, queues = lane()
    more = [*queues, queue("of-somebody", 9)]
    assert judge_lane(Lane.A, WorkPool(**pool), more, limit=3).ok


@pytest.mark.parametrize("words", BREAKS)
def test_lane_that_is_not_says_why(words: str) -> None:
    pool, queues = lane()
    BREAKS[words](pool, queues)
    check = judge_lane(Lane.A, WorkPool(**pool), queues, limit=3)
    assert not check.ok
    assert words in check.found


def test_lane_that_is_missing_is_told() -> None:
    assert judge_lane(Lane.A, None, [], limit=3).found == "was deleted in Prefect"


def test_deployment_whose_runs_no_worker_takes_is_told() -> None:
    elsewhere = DeploymentResponse(name="x", flow_id=uuid4(), labels={}, work_pool_name="somebodys")
    found = judge_pool("kind/x", elsewhere)
    assert found is not None
    assert "its runs go to the work pool somebodys, which is not a lane" in found.found
    assert judge_pool("kind/x", elsewhere.model_copy(update={"work_pool_name": "lane-b"})) is None


def test_runs_whose_queue_was_deleted_are_told() -> None:
    run = FlowRun(flow_id=uuid4(), work_queue_name="high")
    found = judge_waiting([run, run.model_copy(update={"work_queue_id": uuid4()})])
    assert found is not None
    assert found.found == f"1 run waits in a queue that was deleted in Prefect: {short_id(run.id)} in high"
    assert "`ops deploy`" in found.advice
    assert judge_waiting([]) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"a/lane-a": ONE}, ""),
        ({}, "missing: a/lane-a"),
        ({"a/lane-a": Deployed("flows.b.b", "lane-a", "default")}, "other than here: a/lane-a"),
        ({"a/lane-a": ONE, "mine/x": ONE}, "neither in prefect.yaml nor of a file: mine/x"),
    ],
)
def test_deployments_are_those_of_the_file(found: dict[str, Deployed], words: str) -> None:
    check = judge_deployments({"a/lane-a": ONE}, found, all_read=True)
    assert check.ok is (words == "")
    assert words in check.found


def test_every_kind_of_the_file_has_its_programs_listed() -> None:
    from flows.engine.preflight import PROGRAMS
    from opsdb.kinds.kinds import registered_deployments, registered_kinds

    settings = Settings()
    assert set(registered_kinds(settings.prefect_yaml)) - PROGRAMS.keys() == {"nightly_backup"}  # it starts no program
    assert registered_deployments(settings.prefect_yaml)["nightly_backup/nightly-backup"].queue == "high"


OWN = FileDeployment("disk_space", None, "1")
LEFT = {"gone/lane-a": Deployed("flows.templates.gone", "lane-a", "default")}


def judged(templates: list[FileDeployment], found: dict[str, Deployed], *, all_read: bool = True) -> Check:
    wanted = named(one for template in templates for one in deployments_of(template))
    return judge_deployments(wanted, found, all_read=all_read)


def test_deployments_of_templates_are_wanted_in_all_their_lanes() -> None:
    found = {
        f"disk_space/disk_space-{lane.pool}": Deployed("flows.templates.disk_space", lane.pool, "default")
        for lane in Lane
    }
    assert judged([OWN], found).ok
    assert "missing: disk_space/disk_space-lane-a" in judged([OWN], {}).found
    assert "gone/lane-a" in judged([OWN], found | LEFT).found
    assert judged([OWN], found | LEFT, all_read=False).ok  # its file is there, and not right


def test_folders_that_runs_would_refuse_are_named(tmp_path: Path) -> None:
    every_day = IntervalSchedule(interval=timedelta(days=1))
    deployment = DeploymentResponse(
        name="nightly-backup",
        flow_id=uuid4(),
        labels={},
        parameters={"backup_dir": str(tmp_path / "backups" / "odoo"), "target": "offsite"},
        schedules=[DeploymentSchedule(schedule=every_day, parameters={"backup_dir": "/srv/old", "odoo_db": "odoo"})],
    )
    settings = Settings(home=tmp_path / "home", backup_dir=tmp_path / "backups")
    (check,) = judge_folders("nightly_backup/nightly-backup", deployment, settings)
    assert "will be refused for their backup_dir: /srv/old is outside" in check.found
    assert "OPS_BACKUP_ROOTS" in check.advice
    wider = settings.model_copy(update={"backup_roots": (Path("/srv"),)})
    assert list(judge_folders("nightly_backup/nightly-backup", deployment, wider)) == []
