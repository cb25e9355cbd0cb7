"""What `ops deploy` writes to a real Prefect server: what differs, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
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
from pydantic import SecretStr
from sqlalchemy import text

from deployments.server.apply import apply_deployments
from deployments.server.client import pages
from deployments.server.declared import load_deployments
from deployments.server.deploy import deploy_everything
from opsdb.database import writing
from opsdb.errors import OpsError, UsageError
from opsdb.runs.lookup import short_id
from opsdb.setting_sources import SETTLED
from opsdb.settings import Settings
from opsdb.states import SWITCHED_OFF

KIND = "flows.stored_command.stored_command"


class File:
    """A prefect.yaml with one runbook in lane A, applied to the server."""

    def __init__(self, path: Path, client: SyncPrefectClient) -> None:
        self.path = path
        self._client = client
        self.last: dict[str, dict[str, Any]] = {}
        """What was applied last; empty as in a room that does not know."""
        self.kept: list[str] = []
        """What the last deploy left as somebody set it."""
        self.entry: dict[str, Any] = {
            "name": f"test-{uuid4()}",
            "entrypoint": KIND,
            "tags": ["runbook"],
            "work_pool": {"name": "lane-a", "work_queue_name": "default"},
            "schedules": [{"slug": "yearly", "cron": "0 2 1 1 *", "timezone": "UTC"}],
        }

    @property
    def name(self) -> str:
        return f"stored_command/{self.entry['name']}"

    def apply(self, *, reset: bool = False, **fields: Any) -> bool:
        """Whether anything was written."""
        self.entry |= fields
        self.path.write_text(yaml.safe_dump({"deployments": [self.entry]}))
        outcome = apply_deployments(
            self._client,
            load_deployments(self.path, [])[0],
            last=self.last,
            applied=self.last.__setitem__,
            reset=[self.name] * reset,
        )
        assert outcome.written in ([], [self.name])
        self.kept = [f"{kept.setting}: {kept.found}" for kept in outcome.kept]
        return bool(outcome.written)

    def without(self, field: str) -> bool:
        """Apply it without a field."""
        del self.entry[field]
        return self.apply()

    def read(self) -> DeploymentResponse:
        return self._client.read_deployment_by_name(self.name)

    def planned(self) -> dict[UUID, datetime]:
        """The runs that Prefect has planned, with the times at which they are due."""
        own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[self.read().id]))
        runs = pages(self._client.read_flow_runs, flow_run_filter=own)
        return {run.id: run.expected_start_time for run in runs if run.expected_start_time}


@pytest.fixture(scope="module", autouse=True)
def _loads_a_flow() -> None:
    load_flow_from_entrypoint(KIND)  # which sets up Prefect's loggers, the first time in a process


@pytest.fixture
def room(settings: Settings, prefect_room: Settings) -> Settings:
    """The running Prefect server with an ops database of this test alone."""
    return prefect_room.model_copy(update={"database_url": SecretStr(settings.ops_url)})


@pytest.fixture
def file(tmp_path: Path, client: SyncPrefectClient) -> File:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    return File(tmp_path / "prefect.yaml", client)


def test_planned_runs_outlive_a_deploy_that_changes_nothing(file: File) -> None:
    assert file.apply()
    planned = file.planned()
    assert planned
    assert not file.apply()
    assert file.planned() == planned


@pytest.mark.promise(14)
@pytest.mark.parametrize("write", ["the deployment", "a schedule", "another schedule away"])
def test_each_due_time_is_planned_once_over_deploys_that_write(file: File, write: str) -> None:
    every_4_s = {"slug": "often", "interval": 4, "anchor_date": "2026-01-01T00:00:00Z"}
    yearly = {"slug": "yearly", "cron": "0 2 1 1 *"}
    file.apply(schedules=[every_4_s, yearly])
    begun_at = min(file.planned().values())
    for number in range(15):
        file.apply(schedules=[every_4_s, yearly])
        if write == "the deployment":
            assert file.apply(description=f"Number {number}.")
        elif write == "a schedule":
            assert file.apply(schedules=[every_4_s, {"slug": "yearly", "cron": f"0 3 1 {number % 9 + 1} *"}])
        else:
            assert file.apply(schedules=[every_4_s])
    due = sorted(at for at in file.planned().values() if at < datetime.now(UTC) + timedelta(seconds=20))
    assert due == [begun_at + timedelta(seconds=4 * n) for n in range(len(due))]
    assert len(due) > 4


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


def test_what_is_the_rooms_alone_is_as_the_file_says_again(file: File, client: SyncPrefectClient) -> None:
    file.apply()
    client.update_deployment(file.read().id, DeploymentUpdate(description="by hand", entrypoint="x.y"))
    assert file.apply()
    assert file.read().entrypoint == KIND
    assert not file.apply()


YEARLY = {"slug": "yearly", "cron": "0 2 1 1 *", "timezone": "UTC", "active": True, "parameters": {"command": "x"}}
BY_HAND: dict[str, tuple[str, Callable[[SyncPrefectClient, DeploymentResponse], object]]] = {
    "time": (
        "time of schedule yearly",
        lambda client, had: client.update_deployment_schedule(
            had.id,
            had.schedules[0].id,
            schedule=CronSchedule(cron="30 3 1 1 *", timezone="Asia/Manila"),
            active=True,
            parameters={"command": "x"},
        ),
    ),
    "pause": (
        "activity of schedule yearly",
        lambda client, had: client.update_deployment_schedule(
            had.id, had.schedules[0].id, active=False, parameters={"command": "x"}
        ),
    ),
    "parameters of a schedule": (
        "parameter command of schedule yearly",
        lambda client, had: client.update_deployment_schedule(had.id, had.schedules[0].id, parameters={"command": "y"}),
    ),
    "deleted schedule": (
        "schedule yearly",
        lambda client, had: client.delete_deployment_schedule(had.id, had.schedules[0].id),
    ),
    "parameters": (
        "parameter command",
        lambda client, had: client.update_deployment(
            had.id, DeploymentUpdate(parameters={"command": "z"}, work_pool_name="lane-a", tags=had.tags)
        ),
    ),
    "limit": (
        "concurrency limit",
        lambda client, had: client.update_deployment(had.id, DeploymentUpdate(concurrency_limit=5, tags=had.tags)),
    ),
    "queue": (
        "work queue",
        lambda client, had: client.update_deployment(
            had.id, DeploymentUpdate(work_pool_name="lane-a", work_queue_name="urgent", tags=had.tags)
        ),
    ),
}


def _state(file: File) -> dict[str, Any]:
    """All of a deployment but its times."""
    found = file.read()
    limit, fields = found.global_concurrency_limit, {"slug", "schedule", "active", "parameters"}
    plain = found.model_dump(mode="json", exclude={"updated", "schedules", "status", "global_concurrency_limit"})
    schedules = [one.model_dump(mode="json", include=fields) for one in found.schedules]
    return plain | {"limit": limit and limit.limit, "schedules": schedules}


@pytest.mark.parametrize("setting", BY_HAND)
@pytest.mark.parametrize("known", [True, False], ids=["", "in a room that does not know what it applied"])
def test_what_somebody_set_in_prefect_stays_and_is_named_until_a_reset(
    file: File, client: SyncPrefectClient, setting: str, known: bool
) -> None:
    named, change = BY_HAND[setting]
    file.apply(schedules=[YEARLY], parameters={"command": "x"})
    as_declared = _state(file)
    change(client, file.read())
    by_hand = _state(file)
    assert by_hand != as_declared
    if not known:
        file.last.clear()
        if setting == "deleted schedule":
            assert file.apply()  # what may never have been there is made
            return
    for _again in range(2):
        assert not file.apply()
        assert _state(file) == by_hand
        assert [line.partition(":")[0] for line in file.kept] == [named]
        assert setting != "time" or file.kept == [f"{named}: {{'cron': '30 3 1 1 *', 'timezone': 'Asia/Manila'}}"]
    assert file.apply(reset=True)
    assert _state(file) == as_declared
    assert not file.apply()
    assert file.kept == []


def test_one_parameter_that_somebody_set_does_not_hold_back_the_others(file: File, client: SyncPrefectClient) -> None:
    """As with a database that is added in the form, when a default beside it changes in the file later."""
    before = {"command": "x", "days": 30}
    file.apply(schedules=[YEARLY | {"parameters": before}])
    [schedule] = (had := file.read()).schedules
    by_hand = {**before, "command": "by hand", "target": None}
    client.update_deployment_schedule(had.id, schedule.id, active=True, schedule=schedule.schedule, parameters=by_hand)
    file.apply(schedules=[YEARLY | {"parameters": {"command": "x", "days": 60, "new": True}}])
    assert file.read().schedules[0].parameters == {"command": "by hand", "days": 60, "new": True}
    assert [line.partition(":")[0] for line in file.kept] == ["parameter command of schedule yearly"]


def test_what_somebody_set_on_the_deployment_holds_though_the_file_says_it_of_the_schedule_now(
    file: File, client: SyncPrefectClient
) -> None:
    """Prefect takes what the schedule says before what the deployment does: databases would no longer be backed up."""
    file.apply(schedules=[YEARLY], parameters={"host": "a"})
    three = ["odoo_prod", "odoo_staging", "odoo_new"]
    client.update_deployment(file.read().id, DeploymentUpdate(parameters={"databases": three, "host": "a"}))
    says = {"databases": three[:2], "days": 30, "host": "b"}
    file.apply(schedules=[YEARLY | {"parameters": says}])
    for _ in "ab":  # and at each deploy from then on
        assert file.read().schedules[0].parameters == {"databases": three, "days": 30, "host": "b"}
        assert f"parameter databases of schedule yearly: {three}" in file.kept
        file.apply()


def test_what_somebody_set_stays_when_the_file_changes_later_and_the_rest_follows(
    file: File, client: SyncPrefectClient
) -> None:
    file.apply(schedules=[YEARLY])
    BY_HAND["parameters of a schedule"][1](client, file.read())
    changed = YEARLY | {"cron": "5 2 1 1 *", "parameters": {"command": "from the file"}}
    assert file.apply(schedules=[changed], parameters={"command": "w"})
    (yearly,) = file.read().schedules
    assert yearly.parameters == {"command": "y"}
    assert yearly.schedule.model_dump()["cron"] == "5 2 1 1 *"
    assert file.read().parameters == {"command": "w"}


def test_schedule_that_the_file_no_longer_names_goes_unless_somebody_changed_it(
    file: File, client: SyncPrefectClient
) -> None:
    other = {"slug": "other", "cron": "0 4 1 1 *"}
    file.apply(schedules=[YEARLY, other])
    assert file.apply(schedules=[YEARLY])
    assert [one.slug for one in file.read().schedules] == ["yearly"]
    BY_HAND["time"][1](client, file.read())
    assert not file.apply(schedules=[])
    assert [one.slug for one in file.read().schedules] == ["yearly"]
    assert len(file.kept) == 1


def test_schedule_whose_form_somebody_only_opened_goes_when_the_file_no_longer_names_it(
    file: File, client: SyncPrefectClient
) -> None:
    file.apply(schedules=[YEARLY | {"parameters": {"command": "x", "days": None}}])
    [schedule] = (had := file.read()).schedules
    assert schedule.parameters == {"command": "x"}
    saved = {"command": "x", "days": None, "target": None}  # null for each field that is empty
    client.update_deployment_schedule(had.id, schedule.id, active=True, schedule=schedule.schedule, parameters=saved)
    file.apply(schedules=[])
    assert (file.read().schedules, file.kept) == ([], [])


def test_tags_that_somebody_added_stay_and_those_that_the_file_no_longer_names_go(
    file: File, client: SyncPrefectClient
) -> None:
    file.apply(tags=["runbook", "nightly"])
    client.update_deployment(file.read().id, DeploymentUpdate(tags=["mine", "nightly"]))
    assert file.apply(tags=["runbook", "weekly"])
    assert sorted(file.read().tags) == ["mine", "runbook", "weekly"]
    assert not file.apply()


def test_deployment_whose_queue_or_pool_was_deleted_is_whole_again(file: File, client: SyncPrefectClient) -> None:
    file.apply(work_pool={"name": "lane-a", "work_queue_name": "low"})
    client.delete_work_pool("lane-a")
    client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
    assert file.apply()
    after = file.read()
    assert (after.work_pool_name, after.work_queue_name) == ("lane-a", "low")
    assert not file.apply()


def test_unknown_name_to_reset_is_refused_with_the_nearest(file: File, prefect_room: Settings) -> None:
    file.path.write_text(yaml.safe_dump({"deployments": [file.entry | {"name": "nightly"}]}))
    settings = prefect_room.model_copy(update={"prefect_yaml": file.path, "stored_commands": True})
    with pytest.raises(UsageError, match=r"stored_command/nihgtly.*Did you mean stored_command/nightly"):
        deploy_everything(settings, files=[], all_read=True, say=print, reset=["stored_command/nihgtly"])


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
        ({"work_pool": {"name": "lane-e", "work_queue_name": "high"}}, "'lane-e' is not a lane"),
        ({"work_pool": {"name": "lane-a", "work_queue_name": "hihg"}}, "work_pool.work_queue_name"),
        ({"tags": ["other"]}, "tags"),
        ({"name": "a/b"}, "name"),
        ({"parameters": {"command": "{{ $COMMAND }}"}}, "placeholder"),
        ({"schedules": [{"slug": "x", "cron": "0 2 * * *"}] * 2}, "the slug x appears twice"),
        ({"schedules": [{"slug": "x", "cron": "0 2 * * *", "interval": 5}]}, "one of cron, interval and rrule"),
        ({"entrypoint": None}, "entrypoint"),
        ({"concurrency_limit": 0}, "concurrency_limit"),
        ({"schedules": [{"slug": "x", "cron": "every night"}]}, "cron"),
        ({"schedules": [{"cron": "0 2 * * *"}]}, "slug"),
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
        deploy_everything(settings, files=[], all_read=True, say=print)
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
    with pytest.raises(OpsError, match="appears twice"):
        load_deployments(file.path, [])


def test_runbook_may_lie_beside_the_file(file: File) -> None:
    (file.path.parent / "beside_the_file.py").write_text("from prefect import flow\n@flow\ndef mine(): ...\n")
    file.path.write_text(yaml.safe_dump({"deployments": [file.entry | {"entrypoint": "beside_the_file.mine"}]}))
    (loaded,), _ = load_deployments(file.path, [])
    assert loaded.flow.name == "mine"


@pytest.mark.parametrize("entrypoint", ["flows.odoo_db_backup.missing", "no.such.module"])
def test_runbook_that_cannot_be_loaded_is_named_and_leaves_the_others_alone(
    file: File, client: SyncPrefectClient, room: Settings, entrypoint: str
) -> None:
    own = file.entry | {"entrypoint": "flows.odoo_db_backup.odoo_db_backup"}
    file.path.write_text(yaml.safe_dump({"deployments": [own, own | {"name": "other", "entrypoint": entrypoint}]}))
    settings = room.model_copy(update={"prefect_yaml": file.path})
    (line,) = deploy_everything(settings, files=[], all_read=True, say=print)
    assert line.startswith(f"the runbook {entrypoint} cannot be loaded: ")
    assert client.read_deployment_by_name(f"odoo_db_backup/{file.entry['name']}")


def test_what_is_switched_off_goes_and_what_waits_in_it_ends_and_says_why(
    file: File, client: SyncPrefectClient, room: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SETTLED, raising=False)
    settings = room.model_copy(update={"prefect_yaml": file.path, "stored_commands": True})
    file.path.write_text(yaml.safe_dump({"deployments": [file.entry]}))
    deploy_everything(settings, files=[], all_read=True, say=print)
    made = file.read()
    planned = set(file.planned())
    waiting = client.create_flow_run_from_deployment(made.id, parameters={"block": "x"})
    said: list[str] = []
    off = settings.model_copy(update={"stored_commands": False})
    deploy_everything(off, files=[], all_read=True, say=said.append)
    assert file.read().id == made.id  # whoever deploys from another terminal may not have what switches it on
    (line,) = [line for line in said if line.startswith(file.name)]
    assert "stays as it is: OPS_STORED_COMMANDS is off here" in line
    with writing(room, application="test") as db:
        assert db.scalar(text("SELECT subject FROM ops.kinds WHERE kind = 'stored_command'"))
    said.clear()
    monkeypatch.setenv(SETTLED, "1")
    deploy_everything(off, files=[], all_read=True, say=said.append)
    with pytest.raises(ObjectNotFound):
        file.read()
    (line,) = [line for line in said if line.startswith(file.name)]
    assert "removed: OPS_STORED_COMMANDS is off; with its schedules: {'cron': '0 2 1 1 *'" in line
    assert line.endswith(f"; cancelled, since they waited in it: {short_id(waiting.id)}")
    state = client.read_flow_run(waiting.id).state
    assert state is not None
    assert (state.type.value, state.name) == ("CANCELLED", SWITCHED_OFF)
    assert "Hint: set OPS_STORED_COMMANDS=true" in (state.message or "")
    assert planned
    for run_id in planned:
        with pytest.raises(ObjectNotFound):
            client.read_flow_run(run_id)
    deploy_everything(off, files=[], all_read=True, say=said.append)
    deploy_everything(settings, files=[], all_read=True, say=print)
    assert file.read().id != made.id
