"""The room is seen and speaks up: a killed run is told of in time, and a real Prometheus answers every panel."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk, processes_with
from tests.support.dashboards import QUERIES
from tests.support.mattermost import TOKEN, Mattermost
from tests.support.prometheus import scraping
from tests.support.tiers import in_soak
from tests.support.waiting import stopped, wait_for

TOLD_SECONDS = 40.0
SLOW_SECONDS = 30.0  # for a machine with other work to do
FIRING, ENDED = "🚨 **Stuck Run Detected**", "🚨 **Ended In Failure: Stuck Run Detected**"


def started(desk: Desk, api: Api, block: str) -> tuple[str, int]:
    """Start a run of a stored command in lane C. Returns its id and the pid of its process, when its step runs."""
    run_id = api.start("stored_command/stored_command-lane-c", block=block)
    wait_for(lambda: len(processes_with(f"OPS_RUN_ID={run_id}")) > 0, seconds=60, what="its step runs")
    return run_id, json.loads((desk.home / "running" / f"{run_id}.json").read_text())["pid"]


def told(chat: Mattermost, run_id: str) -> list[str]:
    """The first lines of the messages that name the run."""
    return [text.partition("\n")[0] for text in chat.texts if run_id in text]


@pytest.mark.promise(15)
@pytest.mark.parametrize("how", [*in_soak(["killed"]), pytest.param("stopped", marks=pytest.mark.promise(1))])
def test_run_that_dies_is_told_in_time_and_once(
    desk: Desk, api: Api, store: Callable[..., str], chat: Mattermost, how: str
) -> None:
    run_id, pid = started(desk, api, store("sleeper", "sleep 600"))
    since = time.monotonic()
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
    exporter = desk.pid_of("exporter")
    assert exporter is not None
    with stopped([pid, exporter] if how == "stopped" else []):  # alerts do not need the exporter
        wait_for(lambda: told(chat, run_id), seconds=TOLD_SECONDS + SLOW_SECONDS, what="the message is there")
        print(f"{how}: told after {time.monotonic() - since:.1f} s")
        wait_for(lambda: len(told(chat, run_id)) > 1, seconds=60, what="so is the one of its end")
    time.sleep(5)
    assert told(chat, run_id) == [f"{line}: `sleeper · stored command`" for line in (FIRING, ENDED)]
    text = next(text for text in chat.texts if run_id in text)
    worker = desk.json("show", run_id)["claimed_by"]
    lines = text.splitlines()[1:4]
    assert lines == [f"- Run ID: `{run_id}`", "- Kind: `stored_command`", f"- Worker: `{worker}`"]
    assert f"http://127.0.0.1:{desk.ports[0]}/v2/runs/flow-run/{run_id}" in text
    assert desk.json("show", run_id)["status"] == "failed"


def test_alerts_reach_an_address_and_a_block_and_the_token_stands_nowhere(
    desk: Desk, api: Api, chat: Mattermost
) -> None:
    refused = desk.ops("alerts", "test")
    assert (refused.code, "block:chat: not delivered: configuration, HTTP 404" in refused.out) == (2, True)
    block_type = api.get("/block_types/slug/mattermost-webhook")["id"]
    [schema] = api.post("/block_schemas/filter", block_schemas={"block_type_id": {"any_": [block_type]}})
    data = {"hostname": "127.0.0.1", "port": chat.port, "secure": False, "token": TOKEN}
    api.post("/block_documents/", name="chat", data=data, block_type_id=block_type, block_schema_id=schema["id"])
    desk.ops("alerts", "test").fine()
    assert [text for text in chat.texts if "`block:chat`" in text]
    for path in desk.home.rglob("*"):
        with suppress(FileNotFoundError):  # the room writes its files anew
            if path.is_file() and "postgres" not in path.relative_to(desk.home).parts:
                assert TOKEN.encode() not in path.read_bytes(), path
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in desk.processes()]
    assert not [line for line in arguments if TOKEN.encode() in line]
    with desk.database("ops") as db:
        for (table,) in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ops'").fetchall():
            rows = db.execute(f"SELECT t::text FROM ops.{table} t".encode()).fetchall()
            assert not [row for row in rows if TOKEN in row[0]], table


def test_every_panel_is_answered_by_a_prometheus_that_scrapes_the_room(
    desk: Desk, api: Api, store: Callable[..., str], chat: Mattermost, database: str
) -> None:
    sleeping = [started(desk, api, store("sleeper", "sleep 600"))[0] for _ in range(3)]  # the lane executes three
    sleeping.append(api.start("stored_command/stored_command-lane-c", block="sleeper"))
    empty, since, next_run = list(QUERIES), time.monotonic(), 0.0
    with (
        desk.database(database) as db,
        tempfile.TemporaryDirectory(prefix="prom") as folder,
        scraping(f"127.0.0.1:{desk.ports[2]}", Path(folder)) as prometheus,
    ):
        db.execute("BEGIN; LOCK TABLE res_partner IN ACCESS EXCLUSIVE MODE")  # a backup that runs for a while
        held = api.start("odoo_db_backup/odoo_db_backup-lane-a", odoo_db=database)

        def answered() -> bool:
            nonlocal next_run
            now = time.monotonic()
            if now > next_run:  # a rate wants something to happen between two scrapes
                next_run = now + 6
                api.start("odoo_db_backup/odoo_db_backup-lane-b", odoo_db="not_there")
                chat.moods = [503, 200]
                desk.ops("alerts", "test")
            if now > since + 20:
                db.execute("ROLLBACK")
            empty[:] = [query for query in empty if not prometheus.now(query.filled("30s"))]
            return not empty

        try:
            wait_for(answered, seconds=120, what="every panel is answered")
        except AssertionError:
            raise AssertionError(f"without an answer: {[(str(query), query.expression) for query in empty]}") from None
        finally:
            for run_id in sleeping:
                api.post(f"/flow_runs/{run_id}/set_state", state={"type": "CANCELLING"})
            db.execute("ROLLBACK")
            for run_id in (*sleeping, held):  # the lanes are free again for the next test
                api.wait_terminal(run_id, seconds=60)
