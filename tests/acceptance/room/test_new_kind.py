"""After `ops deploy` new and changed runbooks are executed by the worker that was there, beside runs that go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

CODE = '''
from typing import Any

from flows.engine.runbook import runbook
from flows.engine.step import step


@runbook(deadline_seconds=60, subject="${params.whom} · greeting")
def greeting(whom: str) -> dict[str, Any]:
    """Greet somebody.

    Args:
        whom: Who is greeted.
    """
    step("greet", "WORD", timeout=10, env={"WHOM": whom})
    return {"whom": whom}
'''


@pytest.fixture
def registered(desk: Desk, api: Api) -> Iterator[Path]:
    """The folder of the room's prefect.yaml, which is as it was in the end."""
    file = Path(desk.env["OPS_PREFECT_YAML"])
    before = file.read_text()
    yield file.parent
    file.write_text(before)
    desk.ops("deploy", timeout=300)
    for one in api.post("/deployments/filter"):
        if one["name"].startswith(("greeting-", "broken-")):
            api.delete(f"/deployments/{one['id']}")


def register(folder: Path, *entrypoints: str) -> None:
    content: dict[str, Any] = yaml.safe_load((folder / "prefect.yaml").read_text())
    for entrypoint in entrypoints:
        content["deployments"].append(
            {
                "name": f"{entrypoint.rpartition('.')[2]}-lane-b",
                "tags": ["runbook", "lane-b"],
                "work_pool": {"name": "lane-b", "work_queue_name": "default"},
                "entrypoint": entrypoint,
            }
        )
    (folder / "prefect.yaml").write_text(yaml.safe_dump(content))


def worker(desk: Desk) -> tuple[int, int]:
    (part,) = [part for part in desk.json("status")["parts"] if part["name"] == "worker"]
    return part["pid"], part["restarts"]


def test_new_and_changed_kinds_run_without_a_restart_beside_runs_that_go_on(
    desk: Desk, api: Api, registered: Path, store: Callable[..., str]
) -> None:
    before = worker(desk)
    release = registered / "release"
    block = store("patient", f"until [ -e {release} ]; do sleep 0.2; done; exit 0")
    going_on = api.start("stored_command/stored_command-lane-c", block=block)
    wait_for(lambda: api.states([going_on]) == {going_on: "RUNNING"}, seconds=30, what="the run goes on")

    (registered / "own_kinds.py").write_text(CODE.replace("WORD", "echo hello $WHOM"))
    register(registered, "own_kinds.greeting")
    desk.ops("deploy", timeout=300).fine()
    first = desk.run("greeting", "-p", "whom=Ada", "--lane", "B")
    assert (first["status"], first["name"]) == ("succeeded", "Ada · greeting")
    assert first["steps"][0]["command"] == "echo hello $WHOM"

    (registered / "own_kinds.py").write_text(CODE.replace("WORD", "echo good evening $WHOM"))
    (registered / "broken_kind.py").write_text("raise RuntimeError('not finished')\n")
    register(registered, "broken_kind.broken")
    refused = desk.ops("deploy", timeout=300)
    assert refused.code == 2
    said = " ".join(refused.err.split())
    assert "the runbook broken_kind.broken cannot be loaded: RuntimeError: not finished" in said
    second = desk.run("greeting", "-p", "whom=Ada", "--lane", "B")
    assert second["status"] == "succeeded"
    assert second["steps"][0]["command"] == "echo good evening $WHOM"

    assert api.get(f"/flow_runs/{going_on}")["state_type"] == "RUNNING"
    release.touch()
    assert api.wait_terminal(going_on)["state_type"] == "COMPLETED"
    assert worker(desk) == before
