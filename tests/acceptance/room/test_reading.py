"""What the commands print: for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.acceptance.room.desk import Desk
from tests.support.commands import Answer


@pytest.fixture(scope="module")
def run(desk: Desk) -> Iterator[dict[str, Any]]:
    """A backup that succeeded, in a session of its own."""
    with desk.database("postgres") as db:
        db.execute("CREATE DATABASE odoo_read TEMPLATE template0")
        with desk.database("odoo_read") as inside:
            inside.execute("CREATE TABLE t AS SELECT 1 AS id")
        how = ("--session", "reading", "--priority", "7", "--lane", "C")
        yield desk.run("odoo_db_backup", "-p", "odoo_db=odoo_read", *how)
        db.execute("DROP DATABASE odoo_read WITH (FORCE)")


def test_up_said_what_an_operator_needs(started: tuple[Desk, Answer]) -> None:
    desk, answer = started
    assert f"http://127.0.0.1:{desk.ports[0]}" in answer.out
    assert "ops down" in answer.out
    for part in ("postgres", "databases", "prefect", "deploy", "worker", "sync", "exporter", "alerter"):
        assert re.search(rf"^{part}: (ready|done) after", answer.out, re.MULTILINE), answer


def test_second_up_says_that_the_room_runs(desk: Desk) -> None:
    for arguments in (("up",), ("up", "--detach", "--demo")):
        line = desk.ops(*arguments).refused(2)
        assert "runs already" in line
        assert f":{desk.ports[0]}" in line


def test_run_documents_say_everything_of_the_run(desk: Desk, run: dict[str, Any]) -> None:
    assert run["status"] == "succeeded"
    assert run["result"]["size_bytes"] > 0
    listed = desk.json("runs", "--session", "reading")
    shown = desk.json("show", run["id"])
    assert [each["id"] for each in listed] == [run["id"]]
    for document in (run, shown, listed[0]):
        facts = {name: document[name] for name in ("kind", "lane", "priority", "session", "status")}
        assert facts == {
            "kind": "odoo_db_backup",
            "lane": "C",
            "priority": 7,
            "session": "reading",
            "status": "succeeded",
        }
    names = ["preflight", "reserve", "snapshot", "pg_dump", "fingerprint", "globals", "verify", "publish", "prune"]
    assert [step["name"] for step in shown["steps"]] == names
    assert datetime.fromisoformat(shown["finished_at"]).utcoffset() is not None
    assert {artifact["name"].rpartition(".")[2] for artifact in shown["artifacts"]} >= {"dump", "json", "log"}


def test_runs_filters_and_an_unambiguous_part_of_an_id_finds_the_run(desk: Desk, run: dict[str, Any]) -> None:
    assert desk.json("runs", "--lane", "D", "--session", "reading") == []
    assert desk.json("show", run["short_id"])["id"] == run["id"]


def test_logs_are_those_of_the_steps(desk: Desk, run: dict[str, Any]) -> None:
    document = desk.json("logs", run["id"])
    texts = {step["name"]: step["text"] for step in document["steps"]}
    assert run["result"]["sha256"] in texts["pg_dump"]
    assert desk.ops("logs", run["id"], "--step", "pg_dump").fine() == texts["pg_dump"]
    assert "== 7 verify: succeeded, exit code 0 ==" in desk.ops("logs", run["id"], "--follow").fine()


def test_status_says_what_runs(desk: Desk) -> None:
    document = desk.json("status")
    assert document["ready"] is True
    assert {part["name"]: part["state"] for part in document["parts"]} == {
        "postgres": "ready",
        "databases": "done",
        "prefect": "ready",
        "deploy": "done",
        "worker": "ready",
        "sync": "ready",
        "exporter": "ready",
        "alerter": "ready",
    }


def test_metrics_tell_of_the_run(desk: Desk, run: dict[str, Any]) -> None:
    said = httpx.get(f"http://127.0.0.1:{desk.ports[2]}/metrics", trust_env=False).text
    for series in (
        "ops_up",
        'ops_runs_finished_total{kind="odoo_db_backup",lane="C",outcome="succeeded"}',
        'ops_run_duration_seconds_count{kind="odoo_db_backup",lane="C"}',
        'ops_run_queue_wait_seconds_count{lane="C"}',
        'ops_workers{lane="A"}',
        'ops_backup_size_bytes{database="odoo_read"}',
    ):
        assert re.search(rf"^{re.escape(series)} [1-9]", said, re.MULTILINE), (series, said)
    assert '\nops_runs_finished_total{kind="stored_command",lane="A",outcome="failed"} 0.0\n' in said


@pytest.mark.parametrize("columns", [80, 120])
def test_pages_keep_words_whole_and_fit_the_terminal(desk: Desk, run: dict[str, Any], columns: int) -> None:
    width = {"COLUMNS": str(columns)}
    listed = desk.ops("runs", "--session", "reading", env=width).fine()
    shown = desk.ops("show", run["id"], env=width).fine()
    status = desk.ops("status", env=width).fine()
    assert "odoo_read · backup" in listed
    assert "succeeded" in listed
    for name in ("sha256", "file", "size"):
        assert re.search(rf"^ *{name} +\S", shown, re.MULTILINE), shown
    assert run["result"]["sha256"] in shown
    assert str(run["result"]["file"]) in shown
    assert str(desk.home / "postgres" / "socket") in status
    assert all(len(line) <= columns for line in listed.splitlines())


def test_runbooks_are_listed_with_what_they_take(desk: Desk) -> None:
    listed = {one["kind"]: one for one in desk.json("runbooks")}
    assert {"odoo_db_backup", "nightly_backup", "disk_space"} <= listed.keys()
    [backup] = desk.json("runbooks", "odoo_db_backup")
    assert backup == listed["odoo_db_backup"]
    assert backup["lanes"] == ["A", "B", "C", "D"]
    assert [(one["name"], one["required"], one["default"]) for one in backup["params"][:2]] == [
        ("odoo_db", True, None),
        ("retention_days", False, 30),
    ]
    nightly = listed["nightly_backup"]
    assert nightly["lanes"] == ["A"]
    assert {one["name"]: one["default"] for one in nightly["params"]}["databases"] == ["odoo_prod", "odoo_staging"]


def test_runbooks_are_shown_to_people(desk: Desk) -> None:
    table = desk.ops("runbooks").fine()
    assert re.search(r"^odoo_db_backup +A B C D +Back up one", table, re.MULTILINE)
    page = desk.ops("runbooks", "odoo_db_backup").fine()
    assert "Back up one Odoo database, verify the backup" in page
    assert "Args:" not in page
    assert re.search(r"^odoo_db +string +required +Database to back", page, re.MULTILINE)
    assert "\n    ops run odoo_db_backup -p odoo_db=odoo_prod --wait\n" in page
    assert "**" not in page
    assert "```" not in page
    assert "Did you mean odoo_db_backup?" in desk.ops("runbooks", "odoo_db_bakcup").refused(2)
