"""An operator's day: each task by one command, as somebody who never read the code would expect it to go."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk, processes_with
from tests.support.mattermost import Mattermost, listening
from tests.support.waiting import wait_for

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
KIND = "say_in_turn"


@pytest.fixture
def talker(desk: Desk) -> Iterator[Callable[..., dict[str, Any]]]:
    """Starts runs of a template that says a word once in a while, of a folder that is empty afterwards."""
    folder = Path(desk.env["OPS_TEMPLATES"])
    folder.mkdir(exist_ok=True)
    command = 'for n in $(seq 900); do echo "$n ${params.word}"; sleep 0.2; done'
    step = {"name": "talk", "command": command, "timeout": 300}
    file = folder / "talker.json"
    file.write_text(json.dumps({"kind": KIND, "params": {"word": {"default": "hello"}}, "steps": [step]}))
    desk.ops("deploy", timeout=300).fine()

    def start(word: str, *how: str) -> dict[str, Any]:
        run: dict[str, Any] = desk.json("run", KIND, "-p", f"word={word}", *how)
        return run

    yield start
    desk.ops("cancel", "--all", "--kind", KIND, "--yes").fine()
    file.unlink()
    desk.ops("deploy", timeout=300).fine()


def status_of(desk: Desk, run: dict[str, Any]) -> str:
    return str(desk.json("show", run["id"])["status"])


def test_which_backups_failed_this_week_and_why(desk: Desk, database: str) -> None:
    desk.run("odoo_db_backup", "-p", f"odoo_db={database}")
    failed = desk.run("odoo_db_backup", "-p", "odoo_db=odoo_not_there")
    asked = ("runs", "--kind", "odoo_db_backup", "--failed", "--since", "7d", "--why")
    page = desk.ops(*asked, env={"COLUMNS": "200"}).fine()
    [line] = [line for line in page.splitlines() if failed["short_id"] in line]
    assert "there is no database 'odoo_not_there'" in line
    assert database not in page.replace("there are:", "").partition("there is no")[0]
    documents = desk.json(*asked)
    assert {one["status"] for one in documents} == {"failed"}
    assert next(one for one in documents if one["id"] == failed["id"])["why"].startswith("UnknownDatabase: there is no")
    assert [one["id"] for one in desk.json("runs", "--for", "odoo_not_there")] == [failed["id"]]
    assert desk.json("runs", "--for", "odoo_not_there", "--since", "2200-01-01") == []


def test_staging_s_last_run_is_done_again(desk: Desk, database: str) -> None:
    first = desk.run("odoo_db_backup", "-p", f"odoo_db={database}", "-p", "retention_days=9", "--lane", "C")
    other = desk.run("odoo_db_backup", "-p", "odoo_db=odoo_not_there")
    answer = desk.ops("rerun", f"last:{database}", "--wait", "--json")
    assert answer.code == 0, answer
    again = json.loads(answer.out)
    assert again["id"] not in (first["id"], other["id"])
    same = ("kind", "lane", "priority", "params", "status")
    assert {name: again[name] for name in same} == {name: first[name] for name in same}
    assert again["rerun_of"] == first["id"]
    assert f"as run {first['short_id']}" in desk.json("show", "last")["started_from"]
    assert again["attempt"] == 1


def test_production_is_restored_to_a_test_name_by_the_command_that_the_list_shows(desk: Desk, database: str) -> None:
    made = desk.run("odoo_db_backup", "-p", f"odoo_db={database}")
    page = desk.ops("backups", database, env={"COLUMNS": "60"}).fine()
    [hint] = re.findall(r"^Restore the newest: ops run (odoo_db_restore .*) --wait$", page, re.MULTILINE)
    restored = desk.run(*hint.split())
    assert restored["status"] == "succeeded", restored
    assert restored["result"]["backup"] == Path(made["result"]["file"]).name
    with desk.database("postgres") as db:
        db.execute(f"DROP DATABASE {restored['params']['odoo_db']} WITH (FORCE)".encode())


def test_everything_is_stopped(desk: Desk, talker: Callable[..., dict[str, Any]]) -> None:
    running, elsewhere = talker("one", "--lane", "B"), talker("two", "--lane", "C")
    wait_for(lambda: status_of(desk, running) == status_of(desk, elsewhere) == "running", seconds=60, what="they run")
    refused = desk.ops("cancel", "--all", "--lane", "B").refused(2)
    assert "--all would cancel 1 run: add --yes" in refused
    assert "exclude each other" in desk.ops("cancel", running["id"], "--all").refused(2)
    said = json.loads(desk.ops("cancel", "--all", "--lane", "B", "--yes", "--json").fine())
    assert [(one["id"], one["status"]) for one in said["runs"]] == [(running["id"], "cancelled")]
    assert status_of(desk, elsewhere) == "running"
    page = desk.ops("cancel", "--all", "--yes").fine()
    assert f"{elsewhere['short_id']} {KIND}: cancelled" in page
    assert processes_with(f"OPS_RUN_ID={elsewhere['id']}") == {}
    assert desk.json("show", elsewhere["id"])["why"] == f"cancelled by {ACCOUNT} with `ops cancel --all`"


def test_why_it_does_not_start(desk: Desk, api: Api, database: str) -> None:
    api.patch("/work_pools/lane-d", is_paused=True)
    try:
        run = desk.json("run", "odoo_db_backup", "-p", f"odoo_db={database}", "--lane", "D")

        def why() -> str | None:
            answer = desk.ops("show", run["id"])
            return answer.out if "\nwaits  " in answer.out else None

        page = wait_for(why, seconds=30, what="it is recorded")
        assert page is not None
        assert "prefect work-pool resume lane-d" in page
        board = desk.ops("board", "--once").fine()
        assert run["short_id"] in board.partition("Queue")[2]
        desk.ops("cancel", "last").fine()
        said = f"cancelled by {ACCOUNT} with `ops cancel`"
        wait_for(lambda: desk.json("show", run["id"])["why"] == said, seconds=30, what="its end is recorded")
    finally:
        api.patch("/work_pools/lane-d", is_paused=False)


def test_from_where_it_was_started(desk: Desk, api: Api, database: str) -> None:
    path = f"/deployments/{api.deployment('odoo_db_backup/lane-b')['id']}/create_flow_run"
    ui = {"type": "SCHEDULED", "message": "Run from the Prefect UI"}
    from_ui = str(api.post(path, parameters={"odoo_db": database}, state=ui)["id"])
    how = ("run", "odoo_db_backup", "-p", f"odoo_db={database}", "--json")
    typed = json.loads(desk.ops(*how, env={"SUDO_USER": "alice"}).fine())
    nightly = desk.run("nightly_backup", "-p", f"databases={database}")
    [child] = desk.json("runs", "--kind", "odoo_db_backup", "--for", database, "--limit", "1")
    api.wait_terminal(from_ui)
    api.wait_terminal(typed["id"])
    found = {run["id"]: run["started_from"] for run in desk.json("runs", "--for", database)}
    assert found[from_ui] == "Prefect UI"
    assert found[typed["id"]] == f"command line by alice as {ACCOUNT}"
    assert found[nightly["id"]] == f"command line by {ACCOUNT}"
    assert found[child["id"]] == f"run {nightly['short_id']} of nightly_backup"
    assert re.search(r"^started from +Prefect UI$", desk.ops("show", from_ui).fine(), re.MULTILINE)


def test_from_which_schedule_it_was_started(desk: Desk, api: Api, database: str) -> None:
    with api.schedule(
        "odoo_db_backup/lane-b", {"odoo_db": database}, interval=5, anchor_date="2026-01-01T00:00:00Z", timezone="UTC"
    ):
        # the scheduler may take a minute for it, which is no part of this
        path = f"/deployments/{api.deployment('odoo_db_backup/lane-b')['id']}/schedule"
        api.post(path)

        def planned() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = desk.json("runs", "--for", database, "--limit", "5")
            return [run for run in found if run["started_from"].startswith("schedule ")]

        wait_for(lambda: len(planned()) > 0, seconds=120, what="a run of the schedule is recorded by its name")
    desk.ops("cancel", "--all", "--for", database, "--yes").fine()


def test_how_long_do_backups_take(desk: Desk, database: str) -> None:
    for _ in range(2):
        desk.run("odoo_db_backup", "-p", f"odoo_db={database}")
    document = desk.json("stats", "odoo_db_backup", "--since", "1d")
    total, *parts = document["stats"]
    assert total["in_all"]
    assert total["runs"] == sum(one["runs"] for one in parts) >= 2
    [mine] = [one for one in parts if one["about"] == database]
    assert (mine["runs"], mine["success_rate"]) == (2, 1.0)
    assert 0 < mine["median_seconds"] <= mine["p95_seconds"] <= mine["longest_seconds"]
    page = desk.ops("stats", "odoo_db_backup").fine()
    assert re.search(r"^usually +\d", page, re.MULTILINE)
    assert database in page
    assert "odoo_db_backup" in desk.ops("stats").fine()


def test_live_output_of_lane_b(desk: Desk, talker: Callable[..., dict[str, Any]]) -> None:
    first = talker("early", "--lane", "B")
    wait_for(lambda: status_of(desk, first) == "running", seconds=60, what="it runs")
    with tempfile.TemporaryFile("w+") as out:
        argv = desk.command("logs", "--lane", "B", "--follow")
        following = subprocess.Popen(argv, env=desk.env, cwd=desk.home.parent, stdout=out, stderr=subprocess.DEVNULL)
        try:
            second, elsewhere = talker("late", "--lane", "B"), talker("hidden", "--lane", "C")

            def lines() -> list[str]:
                out.seek(0)
                return out.read().splitlines()

            def of(run: dict[str, Any], word: str) -> list[str]:
                return [line for line in lines() if re.fullmatch(rf"{run['short_id']} talk \| \d+ {word}", line)]

            wait_for(lambda: len(of(first, "early")) > 2 < len(of(second, "late")), seconds=60, what="both are heard")
            assert of(second, "late")[0].endswith("| 1 late")
            wait_for(lambda: status_of(desk, elsewhere) == "running", seconds=60, what="the other lane runs")
            assert "hidden" not in "".join(lines())
            following.send_signal(signal.SIGINT)
            assert following.wait(30) == 130
            whole = lines()
        finally:
            following.kill()
            following.wait()
    assert len(whole) == len(set(whole))
    assert all(" | " in line for line in whole)


def test_the_night_begins_at_half_past_three_in_manila_with_a_third_database(desk: Desk, database: str) -> None:
    how = ("schedule", "set", "nightly-backup", "--at", "03:30", "--tz", "Asia/Manila", "--add-db", database)
    try:
        said = desk.ops(*how).fine()
        assert "when: daily 02:00 UTC -> daily 03:30 Asia/Manila" in said
        assert f"odoo_prod, odoo_staging, {database}" in said
        [listed] = desk.json("schedule", "list", "nightly-backup")
        assert listed["parameters"]["databases"] == ["odoo_prod", "odoo_staging", database]
    finally:
        desk.ops("schedule", "reset", "nightly-backup").fine()
        desk.ops("schedule", "set", "nightly-backup", "--pause").fine()


def test_new_template_with_a_parameter_and_an_approval_is_started_and_approved(desk: Desk) -> None:
    folder = Path(desk.env["OPS_TEMPLATES"])
    folder.mkdir(exist_ok=True)
    approval = {"question": "Say ${params.word}?", "timeout": 600}
    step = {"name": "say", "command": "echo said ${params.word}", "timeout": 30, "approval": approval}
    file = folder / "asker.json"
    file.write_text(json.dumps({"kind": "say_it", "params": {"word": {}}, "steps": [step]}))
    try:
        desk.ops("deploy", timeout=300).fine()
        run = desk.json("run", "say_it", "-p", "word=hello")
        wait_for(lambda: run["id"] in {one["id"] for one in desk.json("board")["approvals"]}, seconds=60, what="asks")
        assert f"ops approve {run['short_id']}" in desk.ops("board", "--once", env={"COLUMNS": "60"}).fine()
        desk.ops("approve", "last:say_it").fine()
        wait_for(lambda: status_of(desk, run) == "succeeded", seconds=60, what="it is over")
        assert "said hello" in desk.ops("logs", "last:say_it").fine()
    finally:
        file.unlink()
        desk.ops("deploy", timeout=300).fine()


def test_second_chat_channel_is_tried(desk: Desk, chat: Mattermost) -> None:
    with listening(Mattermost()) as second:
        said = desk.ops("alerts", "test", env={"OPS_ALERT_URLS": f"{chat.url} {second.url}"}).fine()
        assert said.count("delivered") == 2
        assert len(second.texts) == 1
