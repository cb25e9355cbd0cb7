"""The board is read from the ops tables alone."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from cli.board_view import board_document, board_lines
from opsdb.runs.board import read_board
from opsdb.runs.lookup import reading, short_id
from opsdb.runs.workers import write_worker_heartbeat
from opsdb.settings import Settings
from opsdb.states import APPROVAL
from opsdb.tables import Lane
from tests.support.alerts_lab import Lab

PROGRESS = '{"done_bytes": 630, "total_bytes": 1000, "estimated": false, "bytes_per_second": 10.0}'


def filled(lab: Lab) -> dict[str, str]:
    """A room with one run of each sort. Returns their short ids."""
    running = lab.run(lane="B", kind="odoo_db_backup", params='{"odoo_db": "prod"}', started_at="now")
    lab.sql(
        "INSERT INTO ops.run_steps "
        "(run_id, attempt, index, name, status, command, timeout_seconds, started_at, progress) "
        "VALUES (:id, 1, 4, 'pg_dump', 'running', 'x', 60, now(), CAST(:progress AS jsonb))",
        id=running,
        progress=PROGRESS,
    )
    queued = lab.run(lane="B", kind="drill", status="queued", state="SCHEDULED")
    asks = lab.run(lane="C", kind="deploy", status="queued", state="PAUSED")
    lab.sql(
        "UPDATE ops.run_states SET message = :message WHERE run_id = :id",
        message=f"{APPROVAL} until noon: [bold]go on?[/]\x1b[31m",
        id=asks,
    )
    done = lab.run(lane="A", kind="odoo_db_backup", params='{"odoo_db": "prod"}', result='{"size_bytes": 5000000}')
    lab.finish(done, "succeeded")
    lab.sql("INSERT INTO ops.lane_limits (lane, slots) VALUES ('A', 3), ('B', 1), ('D', 0)")
    with lab.engine.begin() as db:
        write_worker_heartbeat(db, name="w-1", host="h", lanes=["A", "B", "D"])
    return {"running": short_id(running), "queued": short_id(queued), "asks": short_id(asks)}


def test_board_holds_what_goes_on(settings: Settings, engine: Engine) -> None:
    ids = filled(Lab(engine))
    with reading(settings) as db:
        board = read_board(db, online_seconds=30)
    lanes = {lane.lane: lane for lane in board.lanes}
    assert [(lane.slots, lane.workers) for lane in board.lanes] == [(3, 1), (1, 1), (None, 0), (0, 1)]
    (executing,) = lanes[Lane.B].executing
    assert (short_id(executing.view.run.id), executing.step) == (ids["running"], "pg_dump")
    assert executing.progress is not None
    assert executing.progress.percent == 63
    assert [short_id(one.view.run.id) for one in board.queue] == [ids["queued"]]
    assert [short_id(view.run.id) for view in board.approvals] == [ids["asks"]]
    assert [(one.database, one.size_bytes, one.drill_at) for one in board.proofs] == [("prod", 5_000_000, None)]
    document = board_document(board, slots=3)
    assert document["lanes"][1]["running"][0]["step"] == "pg_dump"
    assert "lane B is full (1 of 1)" in document["queue"][0]["waits_for"][0]


def test_board_is_drawn_at_any_size_and_text_from_outside_is_harmless(settings: Settings, engine: Engine) -> None:
    ids = filled(Lab(engine))
    with reading(settings) as db:
        board = read_board(db, online_seconds=30)
    for width in (60, 80, 120, 200):
        page = "\n".join(line.plain for line in board_lines(board, width=width, height=None))
        for word in (*ids.values(), "pg_dump", "63 %", "no worker", "paused, or its limit is 0", "prod", "never"):
            assert word in page, (width, word)
        assert f"`ops approve {ids['asks']}`" in page
        assert "\x1b" not in page
        assert "[bold]go on?[/]" in " ".join(page.split())
        for height in (5, 12, 24):
            assert len(board_lines(board, width=width, height=height, note="away")) <= height
    lines = [line.plain for line in board_lines(board, width=80, height=16)]
    assert any(line.endswith("more lines") for line in lines)
    assert {"Lanes", "Queue", "Waiting for approval", "Verified backups"} <= set(lines)


def test_however_many_wait_what_executes_and_asks_is_seen_and_who_goes_first(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsdb.runs.board.MOST_RUNS", 3)
    ids = filled(lab := Lab(engine))
    for run_id in (ids["running"], ids["asks"]):
        lab.sql("UPDATE ops.runs SET created_at = now() - interval '1 day' WHERE id::text LIKE :id", id=f"%{run_id}")
    for _ in range(4):
        lab.run(lane="B", status="queued", state="SCHEDULED")
    planned = lab.run(lane="B", status="queued", state="SCHEDULED", priority=100)
    lab.set(planned, "due_at = now() + interval '1 day'")
    urgent = lab.run(lane="B", status="queued", state="SCHEDULED", priority=100)
    with reading(settings) as db:
        board = read_board(db, online_seconds=30)
    assert [short_id(one.view.run.id) for lane in board.lanes for one in lane.executing] == [ids["running"]]
    assert [short_id(view.run.id) for view in board.approvals] == [ids["asks"]]
    assert [short_id(one.view.run.id) for one in board.queue][:2] == [short_id(urgent), ids["queued"]]
    assert len(board.queue) == 3
    assert board_lines(board, width=120, height=None)[0].plain.endswith("1 running, 7 waiting")
