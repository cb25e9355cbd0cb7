"""Who goes first in a lane, and why a run waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.waiting import wait_for

LANE = "/work_pools/lane-c"


@pytest.fixture
def one_slot(desk: Desk, api: Api) -> Iterator[None]:
    """Lane C executes one run at a time."""
    api.patch(LANE, concurrency_limit=1)
    yield
    api.patch(LANE, concurrency_limit=3)


def test_urgent_run_overtakes_ten_that_wait_and_says_what_it_waits_for(
    desk: Desk, api: Api, store: Callable[..., str], one_slot: None
) -> None:
    sleeper, quick = store("holder", "sleep 300"), store("quick", "true")
    holder = api.start("stored_command/stored_command-lane-c", block=sleeper)
    wait_for(lambda: api.states([holder])[holder] == "RUNNING", seconds=20, what="the lane is full")
    waiting = [api.start("stored_command/stored_command-lane-c", block=quick) for _ in range(10)]
    started = desk.json("run", "stored_command", "-p", f"block={quick}", "--lane", "C", "--priority", "20")
    urgent = started["id"]

    def shown() -> Any:
        answer = desk.ops("show", urgent, "--json")
        return answer.code == 0 and desk.json("show", urgent)

    document = wait_for(shown, seconds=10, what="the urgent run is recorded")
    assert (document["status"], document["priority"]) == ("queued", 20)
    (lane,) = document["waits_for"]
    full = "lane C is full (1 of 1, OPS_LANE_LIMIT here says 3: `ops deploy` sets it)"
    assert lane.startswith(f"{full}: {holder[-8:]} holder · stored command (for ")
    _, before = desk.json("show", waiting[-1])["waits_for"]
    assert before == "10 runs wait in lane C and go first"
    desk.ops("cancel", holder).fine()
    runs = {run_id: api.wait_terminal(run_id, seconds=60) for run_id in [urgent, *waiting]}
    assert {run["state_type"] for run in runs.values()} == {"COMPLETED"}
    assert min(runs, key=lambda run_id: runs[run_id]["start_time"]) == urgent
