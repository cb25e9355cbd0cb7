"""What somebody does to runs in Prefect's UI, or an automation does: the record says what really happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk, processes_with
from tests.support.waiting import wait_for


@pytest.fixture
def held(desk: Desk, store: Callable[..., str]) -> Iterator[tuple[str, Path]]:
    """A stored command whose step goes on while a file is there: the block's name, and the file."""
    hold = desk.home.parent / "hold"
    hold.touch()
    yield store("held", f"while [ -e {hold} ]; do sleep 0.1; done", "echo done"), hold
    hold.unlink(missing_ok=True)


def record(desk: Desk, run_id: str) -> dict[str, Any]:
    with desk.database("ops") as db:
        columns = "status, attempt, started_at, finished_at, outcome_at, deleted_at"
        row = db.execute(f"SELECT {columns} FROM ops.runs WHERE id = %s".encode(), [UUID(run_id)]).fetchone()
        return dict(zip(columns.split(", "), row, strict=True)) if row else {}


def events(desk: Desk, run_id: str) -> list[str]:
    with desk.database("ops") as db:
        query = b"SELECT message FROM ops.run_events WHERE run_id = %s ORDER BY created_at"
        return [str(message) for (message,) in db.execute(query, [UUID(run_id)])]


def alerted(desk: Desk, run_id: str) -> list[str]:
    with desk.database("ops") as db:
        return [str(rule) for (rule,) in db.execute(b"SELECT rule FROM ops.alert_episodes WHERE run_id = %s", [run_id])]


def wait_status(desk: Desk, run_id: str, status: str) -> None:
    wait_for(lambda: record(desk, run_id).get("status") == status, seconds=60, what=f"run {run_id} is {status}")


def started(desk: Desk, api: Api, block: str) -> str:
    """A run whose held step has begun."""
    run_id = api.start("stored_command/stored_command-lane-c", block=block)
    wait_for(lambda: processes_with(f"OPS_RUN_ID={run_id}"), seconds=60, what="its step runs")
    wait_status(desk, run_id, "running")
    return run_id


@contextmanager
def paused(api: Api, pool: str) -> Iterator[None]:
    """A lane that starts nothing."""
    api.patch(f"/work_pools/{pool}", is_paused=True)
    try:
        yield
    finally:
        api.patch(f"/work_pools/{pool}", is_paused=False)


def waiting(desk: Desk, api: Api, block: str) -> str:
    run_id = api.start("stored_command/stored_command-lane-c", block=block)
    wait_status(desk, run_id, "queued")
    return run_id


def force(api: Api, run_id: str, type_: str, name: str | None = None) -> None:
    api.post(f"/flow_runs/{run_id}/set_state", state={"type": type_, "name": name}, force=True)


def test_running_run_that_is_deleted_goes_on_and_its_end_is_recorded(
    desk: Desk, api: Api, held: tuple[str, Path]
) -> None:
    block, hold = held
    run_id = started(desk, api, block)
    log = desk.home / "log" / "worker.log"
    before = log.stat().st_size
    api.delete(f"/flow_runs/{run_id}")
    wait_for(lambda: record(desk, run_id)["deleted_at"], seconds=60, what="that it was deleted is recorded")
    assert record(desk, run_id)["status"] == "running"
    assert "it keeps running" in events(desk, run_id)[-1]
    shown = desk.json("show", run_id)
    assert shown["status"] == "running"
    hold.unlink()
    wait_status(desk, run_id, "succeeded")
    row = record(desk, run_id)
    assert row["started_at"] < row["deleted_at"] < row["finished_at"] == row["outcome_at"]
    assert "done" in desk.ops("logs", run_id).fine()
    assert alerted(desk, run_id) == []
    assert b"Traceback" not in log.read_bytes()[before:]


def test_running_run_that_was_deleted_can_be_cancelled(desk: Desk, api: Api, held: tuple[str, Path]) -> None:
    run_id = started(desk, api, held[0])
    api.delete(f"/flow_runs/{run_id}")
    desk.ops("cancel", run_id, "--wait").fine()
    assert record(desk, run_id)["status"] == "cancelled"
    assert processes_with(f"OPS_RUN_ID={run_id}") == {}
    assert alerted(desk, run_id) == []
    assert desk.ops("cancel", run_id).code == 2  # it is over


def test_run_that_is_set_to_completed_while_it_runs_was_ended_and_has_not_succeeded(
    desk: Desk, api: Api, held: tuple[str, Path]
) -> None:
    run_id = started(desk, api, held[0])
    force(api, run_id, "COMPLETED")
    wait_status(desk, run_id, "cancelled")
    wait_for(lambda: not processes_with(f"OPS_RUN_ID={run_id}"), seconds=30, what="its processes are gone")
    assert "Completed was set in Prefect while it ran in step" in events(desk, run_id)[-1]
    assert {step["status"] for step in desk.json("show", run_id)["steps"]} <= {"succeeded", "interrupted"}
    wait_for(lambda: api.states([run_id]) == {run_id: "CANCELLED"}, seconds=30, what="Prefect hears of it")


@pytest.mark.parametrize("by_hand", ["SCHEDULED", "PENDING"])
def test_run_that_is_put_back_while_it_runs_goes_on(desk: Desk, api: Api, held: tuple[str, Path], by_hand: str) -> None:
    block, hold = held
    run_id = started(desk, api, block)
    force(api, run_id, by_hand)
    wait_for(lambda: "its process keeps running" in str(events(desk, run_id)[-1:]), seconds=60, what="an event says so")
    wait_for(lambda: api.states([run_id]) == {run_id: "RUNNING"}, seconds=30, what="Prefect hears of it")
    hold.unlink()
    wait_status(desk, run_id, "succeeded")
    assert record(desk, run_id)["attempt"] == 1
    assert api.states([run_id]) == {run_id: "COMPLETED"}


def test_running_run_is_not_paused_by_hand(desk: Desk, api: Api, held: tuple[str, Path]) -> None:
    """Both pages of Prefect force what they set, and show the words of an error."""
    run_id = started(desk, api, held[0])
    state = {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_reschedule": True}}
    for forced in (True, False):
        refusal = api.refusal(f"/flow_runs/{run_id}/set_state", state=state, force=forced)
        assert refusal.status_code == 409
        assert "cannot be paused: its step keeps running" in refusal.json()["detail"]
    wanted = {"id": {"any_": [run_id]}}
    (answer,) = api.post("/flow_runs/bulk_set_state", flow_runs=wanted, state=state, force=True)["results"]
    assert "cannot be paused" in answer["details"]["reason"]
    assert api.states([run_id]) == {run_id: "RUNNING"}
    assert events(desk, run_id) == []
    desk.ops("cancel", run_id, "--wait").fine()


def test_run_that_is_held_while_it_waits_is_shown_so_and_starts_when_it_is_resumed(
    desk: Desk, api: Api, held: tuple[str, Path]
) -> None:
    block, hold = held
    hold.unlink()
    with paused(api, "lane-c"):
        run_id = waiting(desk, api, block)
        force(api, run_id, "PAUSED", "Suspended")
        wait_for(
            lambda: "Suspended" in str(desk.json("show", run_id)["waits_for"]), seconds=60, what="it is shown as held"
        )
        assert record(desk, run_id)["status"] == "queued"
        api.post(f"/flow_runs/{run_id}/resume")  # Prefect sets Running, though nobody executes it
        wait_for(lambda: "put back" in str(events(desk, run_id)), seconds=60, what="it waits again")
    wait_status(desk, run_id, "succeeded")
    assert (record(desk, run_id)["attempt"], alerted(desk, run_id)) == (1, [])


def test_waiting_run_whose_pool_was_deleted_starts_after_a_deploy(desk: Desk, api: Api, held: tuple[str, Path]) -> None:
    block, hold = held
    hold.unlink()
    with paused(api, "lane-c"):
        run_id = waiting(desk, api, block)
        api.delete("/work_pools/lane-c")
        assert api.get(f"/flow_runs/{run_id}")["work_queue_id"] is None
        desk.ops("deploy").fine()
    wait_status(desk, run_id, "succeeded")
    assert desk.run("stored_command", "-p", f"block={block}", "--lane", "C")["status"] == "succeeded"


def test_automation_does_not_suspend_a_running_run_and_one_that_cancels_is_recorded(
    desk: Desk, api: Api, held: tuple[str, Path]
) -> None:
    block, hold = held
    trigger = {
        "type": "event",
        "expect": ["prefect.flow-run.Running"],
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "deployment", "prefect.resource.name": "stored_command-lane-c"},
        "posture": "Reactive",
        "threshold": 1,
    }
    made = api.post("/automations/", name="suspend", trigger=trigger, actions=[{"type": "suspend-flow-run"}])
    try:
        run_id = started(desk, api, block)
        failed = {"event": {"name": ["prefect.automation.action.failed"]}}
        wait_for(
            lambda: "cannot be paused" in str(api.post("/events/filter", filter=failed)["events"]),
            seconds=60,
            what="the automation is refused",
        )
        assert api.states([run_id]) == {run_id: "RUNNING"}
        hold.unlink()
        wait_status(desk, run_id, "succeeded")
        hold.touch()
    finally:
        api.delete(f"/automations/{made['id']}")
    made = api.post("/automations/", name="cancel", trigger=trigger, actions=[{"type": "cancel-flow-run"}])
    try:
        run_id = api.start("stored_command/stored_command-lane-c", block=block)
        wait_status(desk, run_id, "cancelled")
        assert processes_with(f"OPS_RUN_ID={run_id}") == {}
    finally:
        api.delete(f"/automations/{made['id']}")
