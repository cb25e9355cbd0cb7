"""`ops doctor` in a real room, and the blocks that an operator fills in there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from blocks.block_types import BLOCK_TYPES
from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.commands import Answer, run_ops_anew
from tests.support.mattermost import TOKEN, Mattermost
from tests.support.silent_server import silent_server

SECRET = "d0ctor-must/not@show-this"
HOSTILE = "\x1b[2J\u202e$(touch /tmp/canary)\nsecond line"


def checks(answer: Answer) -> dict[tuple[str, str], dict[str, Any]]:
    """What it said, by area and subject."""
    assert answer.code in (0, 1), answer
    document = json.loads(answer.out)
    assert document["ok"] is (answer.code == 0)
    assert TOKEN not in answer.out + answer.err
    assert SECRET not in answer.out + answer.err
    return {(one["area"], one["subject"]): one for one in document["checks"]}


def fill_in(api: Api, slug: str, name: str, **data: Any) -> str:
    """Save a block as the UI's form does. Returns its id."""
    block_type = api.get(f"/block_types/slug/{slug}")
    wanted = {"block_type_id": {"any_": [block_type["id"]]}}
    schema = api.post("/block_schemas/filter", block_schemas=wanted)[0]
    facts = {"name": name, "data": data, "block_type_id": block_type["id"], "block_schema_id": schema["id"]}
    return str(api.post("/block_documents/", **facts)["id"])


def test_room_that_runs_is_reached_by_a_command_in_a_python_of_its_own(desk: Desk) -> None:
    answer = run_ops_anew("doctor", "--json", env=desk.env, cwd=desk.home.parent)  # others are forked, Prefect loaded
    found = checks(answer)
    assert ("prefect", "reached") not in found, found
    assert any(area == "prefect" and one["ok"] for (area, _), one in found.items())
    listed = run_ops_anew("runbooks", "--json", env=desk.env, cwd=desk.home.parent)
    assert json.loads(listed.fine())


@pytest.fixture(scope="module")
def blocks(desk: Desk, api: Api, chat: Mattermost) -> Iterator[dict[str, str]]:
    """Blocks in order and not, with secrets in them: their ids by how they are called."""
    socket = str(desk.home / "postgres" / "socket")
    there = {"host": socket, "database": "ops", "user": "postgres", "password": SECRET}
    filled: dict[tuple[str, str], dict[str, Any]] = {
        ("ops-database", "writer"): {**there, "may_write": True},
        ("ops-database", "misspelt"): {**there, "user": f"u {SECRET}", "database": HOSTILE},
        ("ops-database", "absent"): {**there, "database": "nothing-here"},
        ("odoo-host", "hostile"): {"repo_dir": HOSTILE, "health_url": f"http://u:{SECRET}@h/"},
        ("odoo-host", "nowhere"): {"repo_dir": "/nowhere", "health_url": "http://127.0.0.1:9/"},
        ("mattermost-webhook", "doctor"): {"hostname": "127.0.0.1", "port": chat.port, "token": TOKEN},
        ("mattermost-webhook", "whole-address"): {"hostname": f"https://chat.example/hooks/{TOKEN}", "token": "x"},
    }
    made = {f"{slug}/{name}": fill_in(api, slug, name, **data) for (slug, name), data in filled.items()}
    yield made
    for block in made.values():
        api._http.delete(f"/block_documents/{block}").raise_for_status()


@pytest.fixture(scope="module")
def said(desk: Desk, blocks: dict[str, str]) -> Answer:
    assert blocks
    return desk.ops("doctor", "--json")


def test_room_that_runs_is_well(said: Answer) -> None:
    found = checks(said)
    areas = {"settings", "secrets", "disk", "room", "ops database", "prefect", "workers", "sync", "metrics"}
    assert {area for area, _ in found} >= areas | {"programs", "alerts", "blocks"}
    assert [one for (area, _), one in found.items() if area in areas and not one["ok"]] == []
    assert found["programs", "pg_dump"]["ok"]
    assert found["alerts", "alerter"]["ok"]
    assert said.seconds < 25


def test_every_type_is_registered_and_every_block_is_tested(said: Answer, blocks: dict[str, str]) -> None:
    found = {subject.partition(": ")[0] for area, subject in checks(said) if area == "blocks"}
    assert found == set(blocks) | {"mattermost-webhook/chat"} or found == set(blocks)  # another test's block


@pytest.mark.parametrize(
    ("called", "wrong"),
    [
        ("ops-database/writer", []),
        ("ops-database/misspelt", ["fields"]),
        ("ops-database/absent", ["reached"]),
        ("odoo-host/hostile", ["fields"]),
        ("odoo-host/nowhere", ["checkout", "service", "health"]),
        ("mattermost-webhook/doctor", []),
        ("mattermost-webhook/whole-address", ["token", "server"]),
    ],
)
def test_block_is_judged_by_the_test_of_its_type(said: Answer, called: str, wrong: list[str]) -> None:
    found = {subject: one for (_, subject), one in checks(said).items() if subject.startswith(f"{called}: ")}
    assert [subject.partition(": ")[2] for subject, one in found.items() if not one["ok"]] == wrong
    assert all(text.isprintable() for one in found.values() for text in (one["subject"], one["found"], one["advice"]))


def test_table_says_the_same_without_secrets_and_that_a_lane_is_paused(
    desk: Desk, api: Api, blocks: dict[str, str]
) -> None:
    api.patch("/work_pools/lane-d", is_paused=True)
    try:
        answer = desk.ops("doctor", "--all", env={"COLUMNS": "200"})
    finally:
        api.patch("/work_pools/lane-d", is_paused=False)
    assert answer.code == 1
    assert re.search(r"^prefect, lane D: is paused in Prefect and starts nothing", answer.out, re.MULTILINE)
    assert "checks passed" in answer.out
    for secret in (SECRET, TOKEN, "\x1b"):
        assert secret not in answer.out + answer.err
    assert all(called in answer.out for called in blocks)


def test_one_block_is_tested_alone_and_an_unknown_one_is_refused(desk: Desk, blocks: dict[str, str]) -> None:
    found = checks(desk.ops("doctor", "--block", "ops-database/writer", "--json"))
    assert {subject.partition(": ")[0] for _, subject in found} == {"ops-database/writer"}
    line = desk.ops("doctor", "--block", "odoo-host/writer").refused(2)
    assert "no such block" in line
    assert "ops-database/writer" in line
    assert blocks


def test_prefect_gives_no_secret_out_unasked(api: Api, blocks: dict[str, str]) -> None:
    for called, block in blocks.items():
        shown = json.dumps(api.get(f"/block_documents/{block}")["data"])
        if not called.startswith("odoo-host") and "misspelt" not in called and "whole" not in called:
            assert SECRET not in shown
            assert TOKEN not in shown
    for block_type in BLOCK_TYPES:
        assert api.get(f"/block_types/slug/{block_type.get_block_type_slug()}")["description"]


def test_servers_that_hang_are_lines_and_hold_nobody_up(desk: Desk) -> None:
    with silent_server() as port, silent_server() as prefect:
        url = f"postgresql://room:{SECRET.replace('/', '%2F').replace('@', '%40')}@127.0.0.1:{port}/ops"
        answer = desk.ops("doctor", "--json", env={"OPS_DATABASE_URL": url, "OPS_PREFECT_PORT": str(prefect)})
    found = checks(answer)
    assert answer.seconds < 30
    wrong = {area for (area, _), one in found.items() if not one["ok"]}
    assert {"ops database", "prefect", "workers", "sync", "alerts", "blocks"} <= wrong
    assert "Traceback" not in answer.err


def test_room_that_does_not_run_is_the_finding(own_folder: Any) -> None:
    answer = Desk(own_folder / ".ops").ops("doctor", "--json")
    found = checks(answer)
    assert answer.code == 1
    assert [area for (area, _), one in found.items() if not one["ok"]] == ["secrets", "room"]
