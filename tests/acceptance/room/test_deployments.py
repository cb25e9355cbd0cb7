"""Every kind is a deployment per lane, with a form that says what it wants; applying them again changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blocks.block_types import BLOCK_TYPES
from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

REPOSITORY = Path(__file__).parents[3]
KINDS = (
    "disk_space",
    "odoo_db_backup",
    "odoo_db_restore",
    "odoo_fresh_deploy",
    "odoo_module_upgrade",
    "odoo_restore_drill",
    "odoo_staging_copy",
    "odoo_upgrade_rollback",
    "stored_command",
)
LANES = ("lane-a", "lane-b", "lane-c", "lane-d")
QUEUES = {"urgent": 1, "high": 2, "default": 3, "low": 4}
CLOCKS = ("updated", "last_polled", "status", "revision", "ready", "version", "version_id", "version_info")
"""What the server changes by itself, or on every write; and the commit, which `prefect deploy` writes down."""


def everything(api: Api) -> dict[str, Any]:
    """All that `ops deploy` applies, as the server has it."""
    found: dict[str, Any] = {}
    for pool in api.post("/work_pools/filter"):
        found[pool["name"]] = pool
        for queue in api.post(f"/work_pools/{pool['name']}/queues/filter"):
            found[f"{pool['name']}/{queue['name']}"] = queue
    for deployment in api.post("/deployments/filter"):
        found[f"{deployment['flow_id']}/{deployment['name']}"] = deployment
    for block_type in BLOCK_TYPES:
        slug = block_type.get_block_type_slug()
        found[slug] = api.get(f"/block_types/slug/{slug}")
        wanted = {"block_type_id": {"any_": [found[slug]["id"]]}}
        found[f"{slug} schemas"] = api.post("/block_schemas/filter", block_schemas=wanted)
    return {name: without_clocks(value) for name, value in found.items()}


def without_clocks(value: Any) -> Any:
    if isinstance(value, list):
        return [without_clocks(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: without_clocks(item) for key, item in value.items() if key not in CLOCKS}


def without_forms(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: one for key, one in value.items() if key != "parameter_openapi_schema"}
        if isinstance(value, dict)
        else value
        for name, value in found.items()
    }


def test_every_kind_is_deployed_to_every_lane(api: Api) -> None:
    flows = {flow["id"]: flow["name"] for flow in api.post("/flows/filter")}
    deployed = {
        (flows[each["flow_id"]], each["name"], each["work_pool_name"]) for each in api.post("/deployments/filter")
    }
    in_one_lane = {
        ("nightly_backup", "nightly-backup", "lane-a"),
        ("odoo_restore_drill", "weekly-restore-drill", "lane-a"),
        ("odoo_staging_copy", "weekly-staging-copy", "lane-a"),
    }
    assert deployed == {(kind, f"{kind}-{lane}", lane) for kind in KINDS for lane in LANES} | in_one_lane


def test_names_are_unique_sorted_by_kind_and_known_by_those_of_before(api: Api) -> None:
    names = [each["name"] for each in api.post("/deployments/filter", sort="NAME_ASC")]
    assert len(set(names)) == len(names)
    for lane in LANES:
        assert api.deployment(f"odoo_db_backup/{lane}")["name"] == f"odoo_db_backup-{lane}"
        assert {"runbook", "backup", lane} <= set(api.deployment(f"odoo_db_backup/odoo_db_backup-{lane}")["tags"])


def test_every_form_is_typed_described_and_enforced(api: Api) -> None:
    for each in api.post("/deployments/filter"):
        schema = each["parameter_openapi_schema"]
        assert each["enforce_parameter_schema"] is True
        assert each["description"]
        for name, field in schema["properties"].items():
            assert field.get("description"), (each["name"], name)
            assert isinstance(field.get("type"), str) or "enum" in field, (each["name"], name)
            empty = field.get("type") in ("string", "object") or "Empty for" in field["description"]  # or may be null
            assert name in schema.get("required", []) or "default" in field or empty, (each["name"], name)


def test_form_of_the_backup_says_what_it_wants(api: Api) -> None:
    schema = api.deployment("odoo_db_backup/odoo_db_backup-lane-c")["parameter_openapi_schema"]
    assert schema["required"] == ["odoo_db"]
    fields = schema["properties"]
    assert fields["odoo_db"]["pattern"].startswith("^[A-Za-z0-9_]")
    assert fields["odoo_db"]["description"].startswith("Database to back up.")
    assert (fields["retention_days"]["type"], fields["retention_days"]["default"]) == ("integer", 30)
    assert (fields["retention_days"]["minimum"], fields["retention_days"]["maximum"]) == (1, 3650)


def test_every_lane_has_a_limit_and_four_queues_in_order(api: Api) -> None:
    for lane in LANES:
        pool = api.get(f"/work_pools/{lane}")
        assert (pool["type"], pool["concurrency_limit"]) == ("lane", 3)
        queues = {queue["name"]: queue["priority"] for queue in api.post(f"/work_pools/{lane}/queues/filter")}
        assert queues == QUEUES


@pytest.mark.parametrize(
    "parameters",
    [{"odoo_db": "x; touch /tmp/pwned"}, {"odoo_db": ["odoo"]}, {"odoo_db": "odoo", "retention_days": 0}, {}],
    ids=str,
)
@pytest.mark.promise(7)
def test_wrong_parameters_are_refused_by_the_server(api: Api, parameters: dict[str, Any]) -> None:
    deployment = api.deployment("odoo_db_backup/odoo_db_backup-lane-a")["id"]
    answer = api.refusal(f"/deployments/{deployment}/create_flow_run", parameters=parameters)
    assert answer.status_code == 409
    assert "odoo_db" in answer.text or "retention_days" in answer.text
    assert "[A-Za-z" not in answer.text


def test_form_hears_in_words_what_is_wrong_and_an_empty_text_is_right(api: Api) -> None:
    schema = api.deployment("odoo_db_backup/lane-a")["parameter_openapi_schema"]

    def said(**values: Any) -> list[str]:
        answer = api.post("/ui/schemas/validate", schema=schema, values=values)
        return [error for field in answer["errors"] for error in field["errors"]]

    [error] = said(odoo_db="odoo prod")
    assert error.startswith("'odoo prod' is not an Odoo database's name: up to 63 letters")
    [error] = said(odoo_db="postgres")
    assert "postgres, template0 and template1 hold no Odoo data" in error
    assert said(odoo_db="odoo_prod", backup_dir="", target=None) == []


def test_forms_name_a_new_database_once_the_room_is_deployed_again(desk: Desk, api: Api, database: str) -> None:
    """It is right before that as well: a form offers, and does not choose."""

    def named(deployment: str, parameter: str) -> bool:
        field = api.deployment(deployment)["parameter_openapi_schema"]["properties"][parameter]
        assert "enum" not in field
        return database in field.get("examples", ()) and f"{database}" in field["description"]

    fields = [("odoo_db_backup/lane-a", "odoo_db"), ("odoo_module_upgrade/lane-d", "odoo_db")]
    fields.append(("nightly_backup/nightly-backup", "databases"))
    with desk.database(database) as db:
        db.execute("CREATE TABLE ir_module_module (id int)")
    assert [named(*each) for each in fields] == [False] * 3
    desk.ops("deploy").fine()
    assert [named(*each) for each in fields] == [True] * 3
    assert not named("odoo_db_restore/lane-a", "odoo_db"), "which is the name of a new one"
    with desk.database(database) as db:
        db.execute("DROP TABLE ir_module_module")
    desk.ops("deploy").fine()
    assert [named(*each) for each in fields] == [False] * 3


def test_form_of_the_nights_schedule_shows_its_databases(api: Api) -> None:
    [schedule] = api.deployment("nightly_backup/nightly-backup")["schedules"]
    assert schedule["parameters"]["databases"] == ["odoo_prod", "odoo_staging"]


def test_unknown_parameter_ends_in_a_failed_run_that_did_nothing(desk: Desk, api: Api, database: str) -> None:
    run_id = api.start("odoo_db_backup/odoo_db_backup-lane-a", odoo_db=database, colour="red")
    run = api.wait_terminal(run_id)
    assert run["state_type"] == "FAILED"
    assert "colour" in run["state"]["message"]

    def recorded() -> Any:
        shown = desk.ops("show", run_id, "--json")
        return desk.json("show", run_id) if shown.code == 0 else None

    shown = wait_for(recorded, seconds=5, what="the run is recorded")
    assert shown["status"] == "failed"
    assert shown["steps"] == []
    assert "colour" in desk.ops("show", run_id).fine()
    assert list((desk.home / "backups").glob(f"*{database}*")) == []


def test_deploying_again_changes_nothing_neither_by_ops_nor_by_prefect(desk: Desk, api: Api) -> None:
    before = everything(api)
    # as an operator does in a clone: nothing but PREFECT_HOME leads to the room
    plain = {k: v for k, v in desk.env.items() if not k.startswith("OPS_")} | {
        "PREFECT_HOME": str(desk.home / "prefect")
    }
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "deploy", "--all"],
        env=plain,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert without_forms(everything(api)) == without_forms(before)
    # Prefect's command knows the forms as the runbooks have them, and nothing of what exists
    desk.ops("deploy", timeout=100).fine()
    assert everything(api) == before
    said = desk.ops("deploy", timeout=100).fine()
    assert f"deployments: 0 written, {len(KINDS) * len(LANES) + 3} as they were" in said
    assert f"block types registered: {', '.join(one.get_block_type_slug() for one in BLOCK_TYPES)}" in said
    assert everything(api) == before
