"""When a deploy may leave out the comparison: against a real Prefect server, which is changed as people change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from sqlalchemy import text

from blocks.backup_target import BackupTarget
from blocks.form_words import Offer
from deployments.server import access, unchanged
from deployments.server.api import PrefectApi
from deployments.server.apply import apply_deployments
from deployments.server.declared import load_deployments
from opsdb.database import writing
from opsdb.deployed import write_deployed
from opsdb.settings import Settings

KIND = "flows.stored_command.stored_command"


@pytest.fixture
def room(
    prefect_room: Settings, settings: Settings, client: SyncPrefectClient, tmp_path: Path
) -> Iterator[tuple[Settings, str, str]]:
    """Settings with a prefect.yaml of one deployment, which is deployed, and its name and that of its lane."""
    load_flow_from_entrypoint(KIND)
    pool, file = f"pool-{uuid4()}", tmp_path / "prefect.yaml"
    client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    client.create_work_queue("high", work_pool_name=pool)
    BackupTarget.register_type_and_schema()
    entry = {
        "name": f"test-{uuid4()}",
        "entrypoint": KIND,
        "tags": ["runbook"],
        "work_pool": {"name": "lane-a", "work_queue_name": "default"},
        "schedules": [{"slug": "yearly", "cron": "0 2 1 1 *", "timezone": "UTC"}],
    }
    file.write_text(yaml.safe_dump({"deployments": [entry]}))
    if "lane-a" not in [one.name for one in client.read_work_pools()]:
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    apply_deployments(client, load_deployments(file, [])[0], last={}, applied=lambda _name, _settings: None)
    given = {"prefect_yaml": file, "templates": tmp_path / "templates", "database_url": settings.database_url}
    settings = prefect_room.model_copy(update=given)
    (tmp_path / "templates").mkdir()
    yield settings, f"stored_command/{entry['name']}", pool
    client.delete_deployment(client.read_deployment_by_name(f"stored_command/{entry['name']}").id)


def seen(settings: Settings, databases: list[str] | None = None) -> unchanged.Deployed:
    auth = access.read_secrets(settings).prefect_auth_string
    offers = {} if databases is None else {Offer.DATABASES: databases}
    found = unchanged.look(settings, PrefectApi(access.ui_url(settings), auth, seconds=30), offers)
    assert found is not None
    return found


def _new_cron(client: SyncPrefectClient, name: str) -> None:
    deployment = client.read_deployment_by_name(name)
    client.update_deployment_schedule(
        deployment.id, deployment.schedules[0].id, schedule=CronSchedule(cron="5 2 1 1 *"), active=True
    )


def _pause(client: SyncPrefectClient, name: str) -> None:
    deployment = client.read_deployment_by_name(name)
    client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)


def _describe(client: SyncPrefectClient, name: str) -> None:
    client.update_deployment(client.read_deployment_by_name(name).id, DeploymentUpdate(description="by hand"))


@pytest.mark.parametrize(
    "change",
    [
        lambda client, _name, pool: client.update_work_pool(pool, WorkPoolUpdate(concurrency_limit=7)),
        lambda client, _name, pool: client.delete_work_queue_by_id(
            next(queue.id for queue in client.read_work_queues(work_pool_name=pool) if queue.name == "high")
        ),
        lambda client, _name, pool: client.delete_work_pool(pool),
        lambda client, name, _pool: _describe(client, name),
        lambda client, name, _pool: _new_cron(client, name),
        lambda client, name, _pool: _pause(client, name),
        lambda client, _name, _pool: client.create_flow_from_name(f"other-{uuid4()}"),
        lambda client, _name, _pool: client.delete_block_type(client.read_block_type_by_slug("backup-target").id),
    ],
    ids=["limit", "queue", "pool", "description", "cron", "pause", "flow", "block type"],
)
def test_change_in_prefect_is_seen(
    room: tuple[Settings, str, str],
    client: SyncPrefectClient,
    change: Callable[[SyncPrefectClient, str, str], object],
) -> None:
    settings, name, pool = room
    before = seen(settings)
    assert seen(settings) == before
    change(client, name, pool)
    assert seen(settings).left != before.left
    assert seen(settings).read == before.read


def test_what_the_ops_database_lost_of_the_last_deploy_is_seen(room: tuple[Settings, str, str]) -> None:
    settings = room[0]
    with writing(settings, application="test") as db:
        write_deployed(db, "kind/lane-a", {"parameters": {}})
    before = seen(settings)
    with writing(settings, application="test") as db:
        db.execute(text("DELETE FROM ops.deployed WHERE name = 'kind/lane-a'"))
    assert seen(settings).left != before.left


def test_sign_of_life_of_a_worker_is_no_change(room: tuple[Settings, str, str], client: SyncPrefectClient) -> None:
    settings, _, pool = room
    before = seen(settings)
    client.send_worker_heartbeat(pool, "one", 30)
    client.get_scheduled_flow_runs_for_work_pool(pool)
    assert seen(settings) == before


@pytest.mark.parametrize("what", ["setting", "prefect.yaml", "template", "runbook beside the file"])
def test_change_here_is_seen(room: tuple[Settings, str, str], what: str) -> None:
    settings = room[0]
    folder = settings.prefect_yaml.parent
    (folder / "beside.py").write_text("x = 1\n")
    before = seen(settings)
    if what == "setting":
        settings = settings.model_copy(update={"lane_limit": 5})
    elif what == "prefect.yaml":
        settings.prefect_yaml.write_text(settings.prefect_yaml.read_text() + "# more\n")
    elif what == "template":
        (folder / "templates" / "new.yaml").write_text("kind: new\n")
    else:
        (folder / "beside.py").write_text("x = 22\n")
    after = seen(settings)
    assert (after.read != before.read, after.left) == (True, before.left)


def test_database_that_is_new_is_a_reason_and_a_server_that_is_away_is_none(room: tuple[Settings, str, str]) -> None:
    settings, _, _ = room
    last = replace(seen(settings, ["a", "b"]), said=("said",))
    assert unchanged.same(last, seen(settings, ["a", "b"]))
    assert not unchanged.same(last, seen(settings, ["a", "b", "c"]))
    assert not unchanged.same(last, seen(settings, []))
    assert unchanged.same(last, seen(settings, None))


def test_deployment_that_gives_its_runs_a_folder_is_always_compared(
    room: tuple[Settings, str, str], client: SyncPrefectClient
) -> None:
    """Whether its runs accept the folder depends on disks."""
    settings, name, _ = room
    deployment = client.read_deployment_by_name(name)
    client.update_deployment(
        deployment.id, DeploymentUpdate(parameters={"backup_dir": "/gone"}, enforce_parameter_schema=False)
    )
    auth = access.read_secrets(settings).prefect_auth_string
    assert unchanged.look(settings, PrefectApi(access.ui_url(settings), auth, seconds=30), {}) is None
