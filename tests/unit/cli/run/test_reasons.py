from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cli.run.reasons import NOTHING, waiting_lines
from cli.run.view import run_page
from deployments.server.declared import QUEUES
from deployments.server.obstacles import Hold, Obstacle
from opsdb.runs import waiting as opsdb_waiting
from opsdb.runs.lookup import short_id
from opsdb.runs.waiting import Waiting
from opsdb.states import APPROVAL, RunStatus, postponed_message
from tests.support.runs_made_up import HOSTILE, details, drawn

VIEW = details(status=RunStatus.QUEUED).view
READY = Waiting(due_at=None, worker_online=True, holders=[])
FREE = Hold(obstacles=[], slots=3, taken=2)
PAUSED = Obstacle(found="lane B is paused", advice="resume it")


def said(waiting: Waiting = READY, hold: Hold | None = FREE, **others: Any) -> list[str]:
    return waiting_lines(VIEW, waiting, hold=hold, slots=3, **others)


def test_nothing_holds_up_a_run_of_a_lane_with_a_free_slot_and_a_worker() -> None:
    assert said() == [NOTHING]
    [line] = said(hold=None)  # Prefect was not asked
    assert line == f"ops knows no reason: `ops show {short_id(VIEW.run.id)}` asks Prefect"


def test_what_fills_the_lane_is_called_by_its_name() -> None:
    holder = details(status=RunStatus.RUNNING, text="odoo_db_backup").view
    holder.run.name = "odoo_prod · backup"
    full = said(replace(READY, holders=[holder]), Hold(obstacles=[], slots=1, taken=1))
    assert f"{short_id(holder.run.id)} odoo_prod · backup (for " in full[0]


@pytest.mark.parametrize(
    ("waiting", "hold", "starts"),
    [
        (READY, Hold(obstacles=[PAUSED], slots=3), ["lane B is paused: resume it"]),
        (replace(READY, worker_online=False), FREE, ["no worker serves lane B"]),
        (READY, Hold(obstacles=[], slots=3, taken=3), ["lane B is full (3 of 3): `ops runs` lists them"]),
        (
            READY,
            Hold(obstacles=[], slots=1, taken=1),
            ["lane B is full (1 of 1, OPS_LANE_LIMIT here says 3: `ops deploy` sets it)"],
        ),
        (READY, Hold(obstacles=[], slots=None, taken=9), [NOTHING]),
        (replace(READY, ahead={"urgent": 2}), FREE, ["2 runs wait in lane B and go first"]),
        (
            replace(READY, ahead={"urgent": 2, "high": 1}),
            replace(FREE, closed_queues=frozenset({"urgent"})),
            ["1 run waits in lane B and goes first"],
        ),
        (
            replace(READY, ahead={"urgent": 2}),
            Hold(obstacles=[PAUSED], lane_open=False),
            ["lane B is paused: resume it"],
        ),
        (replace(READY, due_at=VIEW.now), None, ["it is not to start before 2026-"]),
        (
            replace(READY, worker_online=False, ahead={"urgent": 2}),
            replace(FREE, due=Obstacle(found="it was planned for 2036", advice="cancel it")),
            ["it was planned for 2036: cancel it"],
        ),
    ],
)
def test_queued_run_says_why_it_waits(waiting: Waiting, hold: Hold | None, starts: list[str]) -> None:
    found = said(waiting, hold)
    assert [line[: len(start)] for line, start in zip(found, starts, strict=True)] == starts


def test_run_that_others_overtake_says_how_many_and_what_to_do() -> None:
    full = Hold(obstacles=[], slots=3, taken=3)
    _, overtaken = said(replace(READY, overtaken_by=37), full)
    assert overtaken.startswith("37 runs went ahead since it waits, more urgent though asked for later")
    assert "--priority" in overtaken
    assert said(replace(READY, overtaken_by=37)) == [NOTHING]  # its turn has come


def test_what_is_not_known_of_prefect_is_not_claimed() -> None:
    holders = [details(status=RunStatus.RUNNING, text=HOSTILE).view] * 3
    unknown, full = said(replace(READY, holders=holders), None, unknown="the room is not running")
    assert unknown == "what blocks it in Prefect is not known: the room is not running"
    assert full.startswith("lane B is full (3 of 3): ")
    assert "(for " in full
    assert "(for " not in said(replace(READY, holders=holders), None, durations=False)[0]
    page = drawn(run_page(details(status=RunStatus.QUEUED), waits_for=[unknown, full]))
    assert "[bold red]x[/]" in page
    assert not set("\x1b\x07\x00\u202e") & set(page)


def test_run_that_waits_for_approval_says_what_it_asks_and_how_to_answer() -> None:
    asks = replace(READY, holders=[VIEW], ahead={"urgent": 3}, approval=f"{APPROVAL}: {HOSTILE}?")
    asked, answer = said(asks)
    assert asked.startswith("it waits for approval: ")
    assert not set("\x1b\x07\x00\u202e") & set(asked)
    name = VIEW.run.id.hex[-8:]
    assert answer == f"ops approve {name} resumes it, ops cancel {name} ends it"


def test_run_that_waits_by_its_own_choice_says_until_when_and_why_and_nothing_of_its_lane() -> None:
    message = postponed_message(VIEW.now, f"the backup of {HOSTILE} is not over")
    [line] = said(replace(READY, worker_online=False, holders=[VIEW], ahead={"low": 3}, postponed=message))
    assert line.startswith("it waits until 2026-11-23 12:01:20 UTC: the backup of ")
    assert not set("\x1b\x07\x00\u202e") & set(line)


def test_queues_are_those_of_a_lane() -> None:
    assert opsdb_waiting._QUEUES == QUEUES


def test_waiting_run_that_somebody_holds_says_how_it_goes_on() -> None:
    view = details(status=RunStatus.QUEUED).view
    held = Waiting(due_at=None, worker_online=True, holders=[], held="Suspended")
    [line] = waiting_lines(view, held, hold=None, slots=3)
    assert line.startswith("it was set to Suspended in Prefect, and starts when somebody resumes it there")
    assert f"ops cancel {short_id(view.run.id)}" in line
