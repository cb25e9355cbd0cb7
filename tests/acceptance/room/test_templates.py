"""A file becomes a runbook: deployed, started, recorded, changed, and taken away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

KIND = "greet_somebody"


@pytest.fixture
def folder(desk: Desk) -> Iterator[Path]:
    """The room's folder of templates, empty before and after."""
    folder = Path(desk.env["OPS_TEMPLATES"])
    folder.mkdir(exist_ok=True)
    yield folder
    for file in folder.iterdir():
        file.unlink()


def write(folder: Path, command: str, **fields: Any) -> Path:
    path = folder / "greeting.json"
    steps = [{"name": "greet", "command": command, "timeout": 10}]
    path.write_text(json.dumps({"kind": KIND, "steps": steps, **fields}))
    return path


def deployed(api: Api) -> set[str]:
    flows = {flow["id"]: flow["name"] for flow in api.post("/flows/filter")}
    return {one["name"] for one in api.post("/deployments/filter") if flows[one["flow_id"]] == KIND}


def test_file_becomes_a_runbook_and_stops_being_one(desk: Desk, api: Api, folder: Path) -> None:
    write(folder, "echo hello ${params.name}", params={"name": {"description": "Whom to greet."}})
    (folder / "broken.yaml").write_text("kind: broken\nsteps:\n- {name: a, command: 'eval ${params.x}', timeout: 5}\n")
    answer = desk.ops("deploy", timeout=100)
    assert answer.code == 2
    assert "broken.yaml: step a: command: ${params.x} is used after `eval`" in " ".join(answer.err.split())
    assert "deployments: 4 written" in answer.out
    assert deployed(api) == {f"{KIND}-lane-{lane}" for lane in "abcd"}
    form = api.deployment(f"{KIND}/{KIND}-lane-c")
    assert form["tags"] == ["template", "lane-c", "runbook"]
    assert form["parameter_openapi_schema"]["properties"]["name"]["description"].startswith("Whom to greet. Allowed: ")

    run = desk.run(KIND, "-p", "name=Ada_L:1", "--lane", "C")
    assert run["status"] == "succeeded"
    assert [step["name"] for step in run["steps"]] == ["preflight", "greet"]
    assert run["steps"][1]["command"] == "echo hello Ada_L:1"
    assert "hello Ada_L:1" in desk.ops("logs", run["id"]).fine()
    refused = desk.ops("run", KIND, "-p", f"name=$(touch {folder}/canary)")
    assert refused.code == 2
    assert "name begins with '$', which is not allowed in the text of a command" in " ".join(refused.err.split())
    path = f"/deployments/{form['id']}/create_flow_run"
    asked = api.refusal(path, parameters={"name": f"a;touch {folder}/canary"}, state={"type": "SCHEDULED"})
    assert (asked.status_code, "name" in asked.text) == (409, True), asked.text  # as the form asks
    assert not (folder / "canary").exists()
    assert f"runs version 1 of the template {KIND}" in desk.ops("show", run["id"]).fine()
    assert desk.ops("run", KIND, "-p", "name=-x").code == 2
    assert desk.ops("run", KIND, "-p", "name=x", "-p", "colour=red").code == 2
    planned = desk.json("run", KIND, "-p", "name=x", "--dry-run")
    assert planned["steps"][1]["command"] == "echo hello x"

    write(folder, "echo bye ${params.name}", params={"name": {}})
    changed = desk.run(KIND, "-p", "name=x")
    told = [event["message"] for event in desk.json("show", changed["id"])["events"]]
    assert f"runs version 2 of the template {KIND}" in told
    assert any(message.startswith("the template changed since `ops deploy`") for message in told)
    (mine,) = [one for one in desk.json("template", "list") if one["kind"] == KIND]
    assert (mine["valid"], mine["versions"], mine["last_status"]) == (True, 2, "succeeded")
    (broken,) = [one for one in desk.json("template", "list") if one["kind"] == "broken"]
    assert broken["valid"] is False
    assert "step a: command: " in broken["errors"][0]

    write(folder, "eval ${params.name}")
    failed = desk.run(KIND, "-p", "name=x")
    assert failed["status"] == "failed"
    assert "is used after `eval`" in json.dumps(failed["error"])

    write(folder, "true", lane="B")
    (folder / "broken.yaml").write_text("{")  # so nobody knows whose deployments were its own
    assert "runbook left out" in desk.ops("deploy", "--skip-broken", timeout=100).err
    assert deployed(api) == {f"{KIND}-lane-{lane}" for lane in "abcd"}
    (folder / "broken.yaml").unlink()
    said = desk.ops("deploy", timeout=100).fine()
    assert f"{KIND}/{KIND}-lane-d removed: its template is gone" in said
    assert deployed(api) == {f"{KIND}-lane-b"}


def test_template_asks_before_a_step_and_goes_on_when_it_was_approved(desk: Desk, folder: Path) -> None:
    steps = [
        {"name": "prepare", "command": f"echo $OPS_RUN_ID >> {folder}/prepared.txt", "timeout": 10},
        {
            "name": "greet",
            "command": f'test -e {folder}/open.txt && echo "hello ${{params.name}}"',
            "timeout": 10,
            "approval": {"question": "greet ${params.name}?", "timeout": 300},
        },
    ]
    (folder / "asking.json").write_text(json.dumps({"kind": KIND, "lane": "B", "steps": steps}))
    assert "asks first: greet ${params.name}?" in " ".join(
        desk.ops("template", "check", str(folder / "asking.json")).fine().split()
    )
    desk.ops("deploy", timeout=100).fine()
    planned = desk.json("run", KIND, "-p", "name=Ada", "--lane", "B", "--dry-run")
    assert [step["name"] for step in planned["steps"]] == ["preflight", "prepare", "approve_greet", "greet"]
    run = desk.json("run", KIND, "-p", "name=Ada", "--lane", "B")["id"]
    wait_for(
        lambda: desk.ops("show", run).code == 0 and "greet Ada?" in "".join(desk.json("show", run)["waits_for"]),
        seconds=30,
        what="it asks",
    )
    assert desk.json("show", run)["status"] == "queued"
    desk.ops("approve", run).fine()
    wait_for(lambda: desk.json("show", run)["status"] == "failed", seconds=30, what="the closed door")
    (folder / "open.txt").touch()
    said = desk.ops("retry", run, "--from-failed", "--wait").fine()
    assert "Not done again: preflight, prepare, approve_greet." in said
    assert (folder / "prepared.txt").read_text().split() == [run]
    assert "hello Ada" in desk.ops("logs", run, "--step", "greet").fine()


def test_template_whose_kind_is_taken_is_refused(desk: Desk, folder: Path) -> None:
    seed = Path(__file__).parents[2] / "seed_templates" / "odoo_db_backup.json"
    answer = desk.ops("template", "check", str(seed))
    assert answer.code == 2
    assert "odoo_db_backup is a runbook of prefect.yaml already" in " ".join(answer.err.split())
    checked = json.loads(desk.ops("template", "check", str(seed), "--json").out)
    assert checked["valid"] is False
    registry = folder / "prefect.txt"
    registry.write_text("deployments: []\n")
    found = json.loads(
        desk.ops("template", "check", str(seed), "--json", env={"OPS_PREFECT_YAML": os.fspath(registry)}).fine()
    )
    assert [one["name"] for one in found["params"]] == ["odoo_db", "s3_bucket"]
    assert found["steps"][0]["timeout_seconds"] == 600
