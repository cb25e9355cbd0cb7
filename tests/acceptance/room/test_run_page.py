"""The page of a run in Prefect's UI, as it is read back over the API: its lines, its artifacts, its question."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

ASKING = """\
kind: asking
description: Asks before it does something.
params:
  what:
    default: words
steps:
  - name: begin
    command: echo ${params.what}
    timeout: 60
  - name: apply
    approval:
      question: Shall *all* of it `go`?
      timeout: 600
    command: echo applied
    timeout: 60
"""


def lines_of(api: Api, run_id: str) -> list[tuple[str, str]]:
    """The logger and the message of each line of the page, in its order."""
    found: list[Any] = []
    wanted: dict[str, Any] = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    while more := api.post("/logs/filter", offset=len(found), **wanted):
        found += more
    assert len({line["timestamp"] for line in found}) == len(found)  # else their order is anybody's guess
    return [(line["name"], line["message"]) for line in found]


def artifacts_of(api: Api, run_id: str) -> dict[str, Any]:
    """The artifacts that the page shows, by key."""
    found = api.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run_id]}})
    shown = [one for one in found if one["key"]]
    assert len({one["key"] for one in shown}) == len(shown)
    return {one["key"]: one for one in shown}


def test_backup_says_what_its_steps_did(desk: Desk, api: Api, database: str) -> None:
    run = desk.run("odoo_db_backup", "-p", f"odoo_db={database}")
    assert run["status"] == "succeeded"
    lines = lines_of(api, run["id"])
    said = [message for name, message in lines if name == "ops.step"]
    assert said[0] == "The run begins"
    assert said[1].startswith(f"Step 1 preflight begins: check programs, database {database}")
    begun = next(number for number, message in enumerate(said) if message.startswith("Step 4 pg_dump begins: "))
    assert said[begun + 1].startswith("Step 4 pg_dump succeeded after ")
    assert said[begun + 1].endswith(", exit code 0")
    assert said[-1].startswith("The run succeeded after ")
    assert any(name == "pg_dump" and message.startswith("bytes: ") for name, message in lines)
    key = f"backup-{database.replace('_', '-')}"
    shown = artifacts_of(api, run["id"])
    assert set(shown) == {key, f"{key}--steps"}
    assert run["result"]["sha256"] in shown[key]["data"]
    assert f"ops run odoo_db_restore -p backup={run['result']['file'].rpartition('/')[2]}" in shown[key]["data"]
    steps = json.loads(shown[f"{key}--steps"]["data"])
    assert [(step["name"], step["status"], step["exit_code"]) for step in steps][3] == ("pg_dump", "succeeded", 0)
    assert {step["status"] for step in steps} == {"succeeded"}


def test_output_is_bounded_ordered_and_harmless_and_a_failure_is_said_in_one_line(
    desk: Desk, api: Api, store: Callable[..., str]
) -> None:
    hostile = "printf 'a\\033[31mred\\033[0m\\0nul \\377 \\342\\200\\256turned\\n'"
    long = "seq 1 3000; head -c 9000 /dev/zero | tr '\\0' x"
    block = store("hostile", hostile, long, "echo; echo 'oops: no such thing' >&2; exit 3")
    run = desk.run("stored_command", "-p", f"block={block}")
    assert run["status"] == "failed"
    short = run["short_id"]
    lines = lines_of(api, run["id"])
    output = [message for name, message in lines if name == "commands"]
    assert output[0] == "arednul \ufffd turned"
    assert output[1:100] == [str(number) for number in range(1, 100)]
    assert 400 < len(output) <= 501
    assert any(line.endswith(f"lines cut here; `ops logs {short} --step 2` has more]") for line in output)
    assert any(line.endswith("x [line cut, 9,000 bytes]") for line in output)
    said = [message for name, message in lines if name == "ops.step"]
    assert said[-3].endswith(", exit code 3: oops: no such thing")
    assert said[-2] == "The run failed in step 2 commands: step commands failed: exit code 3: oops: no such thing"
    assert said[-1].startswith(f"Next: `ops logs {short} --step 2`")
    assert "Traceback" not in str(lines)
    shown = artifacts_of(api, run["id"])
    text = shown[f"stored-command-{block}"]["data"]
    assert "oops: no such thing" in text
    assert f"ops retry {short}" in text
    desk.ops("retry", run["id"], "--wait")
    assert [message for name, message in lines_of(api, run["id"]) if message == "Attempt 2 begins"] != []
    assert set(artifacts_of(api, run["id"])) == set(shown)


def test_what_a_killed_run_wrote_stands_there(desk: Desk, api: Api, store: Callable[..., str]) -> None:
    run_id = api.start("stored_command/lane-b", block=store("endless", "echo begun; sleep 600"))
    wait_for(lambda: ("commands", "begun") in lines_of(api, run_id), seconds=60, what="its output is shown as it comes")
    os.kill(json.loads((desk.home / "running" / f"{run_id}.json").read_text())["pid"], signal.SIGKILL)
    wait_for(lambda: api.states([run_id]) == {run_id: "CRASHED"}, seconds=60, what="it is found")
    assert ("commands", "begun") in lines_of(api, run_id)


def test_question_stands_on_the_page_and_in_the_dialog_that_resumes(desk: Desk, api: Api) -> None:
    templates = desk.home.parent / "templates"
    templates.mkdir(exist_ok=True)
    file = templates / "asking.yaml"
    file.write_text(ASKING)
    try:
        desk.ops("deploy").fine()
        run_id = api.start("asking/lane-c", what="words")
        wait_for(lambda: api.states([run_id]) == {run_id: "PAUSED"}, seconds=60, what="it asks")
        state = api.get(f"/flow_runs/{run_id}")["state"]
        keyset = state["state_details"]["run_input_keyset"]
        assert "Shall *all* of it `go`?" in state["message"]
        assert "Shall *all* of it 'go'?" in " ".join(
            api.get(f"/flow_runs/{run_id}/input/{keyset['description']}").split()
        )
        text = artifacts_of(api, run_id)["asking--words"]["data"]
        assert "Shall \\*all\\* of it \\`go\\`?" in text
        assert f"ops approve {short_id_of(run_id)}" in text
        api.post(f"/flow_runs/{run_id}/resume", run_input={})
        api.wait_terminal(run_id)
        said = [message for name, message in lines_of(api, run_id) if name == "ops.step"]
        assert "Attempt 2 begins" in said
        assert any("approved in Prefect's UI" in message for message in said)
        assert set(artifacts_of(api, run_id)) == {"asking--words", "asking--words--steps"}
    finally:
        file.unlink()
        desk.ops("deploy").fine()


def short_id_of(run_id: str) -> str:
    return run_id.replace("-", "")[-8:]
